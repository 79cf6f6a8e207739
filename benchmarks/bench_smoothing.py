"""Randomized smoothing beside its limit: the forward passes of all noisy copies in float32, and nothing else.

    python benchmarks/bench_smoothing.py [--records 6] [--samples 1000] [--threads 1] [--repeats 3]

The network and the digits of bench_pgd.py. The limit passes as many copies through the network, in batches of 128, as
CERTIFY looks at for every record. `plain` is CERTIFY as its authors run it: noise and passes in batches of 1,000.
`assay` is what an evaluation does: batch norms folded, channels last, chunks of 32, records that are bound to abstain
spared the many copies. `assay in bfloat16` is added where the CPU multiplies in it, and is then what the bar of 0.5 is
for; elsewhere the bar is 0.9 of the limit, and `plain` may not be faster. One JSON line; exits 1 when that does not
hold, or when `plain` certifies more records right than assay by more than one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from bench_pgd import digits, keep_memory, learned
from torch import nn

import assay
from assay.evaluate.fast import fast, supports_bfloat16
from assay.evaluate.smoothing import Smoothed, smooth

BAR, BAR_FLOAT32 = 0.5, 0.9
SIGMA, SELECTION, ALPHA = 0.12, 100, 0.001


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("records", 6), ("samples", 1000), ("threads", 1), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
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
    sys.stdout.write(json.dumps({"assay": assay.__version__, **result, **extra, **vars(given)}) + "\n")
    return int(not (ratio[best] <= bar and ratio[best] <= ratio["plain"] and right[best] >= right["plain"] - 1))


def passes(model: nn.Module, x: torch.Tensor, copies: int, batch: int = 128) -> None:
    """So many copies forward, no noise drawn."""
    at = x[torch.arange(batch) % len(x)]
    with torch.no_grad():
        for start in range(0, copies, batch):
            model(at[: min(batch, copies - start)])


if __name__ == "__main__":
    sys.exit(main())
