"""Randomized smoothing beside its limit: the forward passes of all noisy copies in float32, and nothing else.

    python benchmarks/bench_smoothing.py [--records 6] [--samples 1000] [--threads 1] [--repeats 3]
        [--cohen core.py] [--art] [--packages FOLDER]

The network and the digits of bench_pgd.py. The limit passes as many copies through the network, in batches of 128, as
CERTIFY looks at for every record. `plain` is CERTIFY as its authors run it: noise and passes in batches of 1,000.
`assay` is what an evaluation does: batch norms folded, channels last, chunks of 32, records that are bound to abstain
spared the many copies. `assay in bfloat16` is added where the CPU multiplies in it, and is then what the bar of 0.5 is
for; elsewhere the bar is 0.9 of the limit, and `plain` may not be faster. One JSON line; exits 1 when that does not
hold, or when `plain` certifies more records right than assay by more than one.

`--cohen` runs the authors' own code beside it, code/core.py of github.com/locuslab/smoothing, on the CPU in batches of
1,000, and holds its radius for every count of hits against ours: a difference above 1e-9 fails. `--art` runs that of
the Adversarial Robustness Toolbox in batches of 128. What they need and assay does not (statsmodels, patsy; ART and
six) may lie in a folder of its own: `pip install --no-deps --target FOLDER ...`, `--packages FOLDER`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch
from bench_pgd import digits, keep_memory, learned
from torch import nn

import assay
from assay.evaluate.fast import fast, supports_bfloat16
from assay.evaluate.smoothing import Smoothed, radius_of, smooth

BAR, BAR_FLOAT32 = 0.5, 0.9
SIGMA, SELECTION, ALPHA = 0.12, 100, 0.001


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("records", 6), ("samples", 1000), ("threads", 1), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--cohen", default="")
    parser.add_argument("--art", action="store_true")
    parser.add_argument("--packages", default="")
    given = parser.parse_args()
    sys.path += [given.packages] if given.packages else []
    keep_memory()
    torch.set_num_threads(given.threads)
    x, y = digits()
    model = learned(x[512:], y[512:])
    x, y = x[: given.records], y[: given.records]

    def certified(found: nn.Module, chunk: int) -> Callable[[], Smoothed]:
        settings = {"sigma": SIGMA, "selection": SELECTION, "samples": given.samples, "alpha": ALPHA, "chunk": chunk}
        return lambda: smooth(found, x, **settings, generator=torch.Generator().manual_seed(0))

    ways: dict[str, Callable[[], object]] = {
        "limit": lambda: passes(model, x, given.records * (given.samples + SELECTION)),
        "plain": certified(model, 1000),
        "assay": certified(fast(model), 32),
    }
    if supports_bfloat16():
        ways["assay in bfloat16"] = certified(fast(model, bfloat16=True), 32)
    apart = 0.0
    if given.cohen:
        published = cohen(given.cohen, model)
        apart = furthest(published)
        ways["cohen"] = lambda: by_cohen(published, x, given.samples)
    if given.art:
        ways["art"] = art(model, x, given.samples)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    said: dict[str, Smoothed] = {}
    for _ in range(given.repeats + 1):  # the first round warms up
        for name, way in ways.items():
            started = time.process_time()
            found = way()
            seconds[name].append(time.process_time() - started)
            if isinstance(found, Smoothed):
                said[name] = found
    median = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    ratio = {name: round(each / median["limit"], 3) for name, each in median.items()}
    right = {name: int((found.predicted == y.numpy()).sum()) for name, found in said.items()}
    radius = {name: round(float(np.mean(found.radius)), 5) for name, found in said.items()}
    best, bar = ("assay in bfloat16", BAR) if supports_bfloat16() else ("assay", BAR_FLOAT32)
    result = {"cpu_s": {name: round(each, 2) for name, each in median.items()}, "ratio": ratio, "bar": bar}
    extra = {"right": right, "mean_radius": radius, "bfloat16": supports_bfloat16()}
    if given.cohen:
        extra["radius_apart"] = apart
    told = {name: value for name, value in vars(given).items() if name not in ("cohen", "packages")}
    sys.stdout.write(json.dumps({"assay": assay.__version__, **result, **extra, **told}) + "\n")
    return int(
        not (
            apart <= 1e-9 and ratio[best] <= bar and ratio[best] <= ratio["plain"] and right[best] >= right["plain"] - 1
        )
    )


def cohen(path: str, model: nn.Module) -> Any:
    """Their class, on the CPU; what it imports and CERTIFY does not call is left out of a newer SciPy."""
    scipy.stats.binom_test = None
    names: dict[str, Any] = {}
    text = Path(path).read_text().replace("device='cuda'", "device=batch.device")
    exec(compile(text, path, "exec"), names)
    return names["Smooth"](model, 10, SIGMA)


def by_cohen(published: Any, x: torch.Tensor, samples: int) -> Smoothed:
    found = [published.certify(each, SELECTION, samples, ALPHA, 1000) for each in x]
    return Smoothed(np.array([each[0] for each in found]), np.array([each[1] for each in found]), 0)


def furthest(published: Any, samples: int = 1000) -> float:
    """How far our radius is from theirs at most, over every count of hits."""
    sampled, away = published._sample_noise, 0.0
    for hits in range(samples + 1):
        published._sample_noise = lambda x, count, batch, hits=hits: np.array([0, hits if count == samples else 1])
        away = max(away, abs(published.certify(None, 1, samples, ALPHA, 1)[1] - radius_of(hits, samples, SIGMA, ALPHA)))
    published._sample_noise = sampled
    return away


def art(model: nn.Module, x: torch.Tensor, samples: int) -> Callable[[], Smoothed]:
    from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing

    theirs = PyTorchRandomizedSmoothing(
        model=model, loss=nn.CrossEntropyLoss(), input_shape=tuple(x.shape[1:]), nb_classes=10, device_type="cpu",
        sample_size=SELECTION, scale=SIGMA, alpha=ALPHA, clip_values=None,
    )  # fmt: skip

    def certify() -> Smoothed:
        predicted, radius = theirs.certify(x.numpy(), n=samples, batch_size=128)
        return Smoothed(np.asarray(predicted), np.asarray(radius, dtype=np.float64), 0)

    return certify


def passes(model: nn.Module, x: torch.Tensor, copies: int, batch: int = 128) -> None:
    """So many copies forward, no noise drawn."""
    at = x[torch.arange(batch) % len(x)]
    with torch.no_grad():
        for start in range(0, copies, batch):
            model(at[: min(batch, copies - start)])


if __name__ == "__main__":
    sys.exit(main())
