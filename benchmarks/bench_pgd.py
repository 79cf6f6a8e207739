"""PGD against its limit: as many forward and input-gradient passes as it makes, and nothing else.

    python benchmarks/bench_pgd.py [--records 128] [--steps 40] [--threads 1] [--repeats 3]

Both run in this process in turn, so that a busy machine slows both; the ratio is what counts. The limit freezes the
weights, as a gradient of them is work that an attack does not need; `with weight gradients` shows what that would cost.
glibc is told to keep memory, because its habit of returning every large activation to the kernel costs both a third of
their time, by chance not the same third. One JSON line; exits 1 when the ratio is above 1.25.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

import assay
from assay.attacks.pgd import PGD
from assay.models.small_cnn import SmallCNN
from assay.threat import ThreatModel

BAR = 1.25
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("records", 128), ("steps", 40), ("threads", 1), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    keep_memory()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = SmallCNN(width=32).build((3, 32, 32), 10).eval()
    x, y = torch.rand(given.records, 3, 32, 32), torch.randint(10, (given.records,))
    threat = ThreatModel(epsilon=8 / 255)
    attack = PGD(steps=given.steps, restarts=1)
    ways: dict[str, Callable[[], object]] = {
        "limit": lambda: passes(model, x, y, given.steps, weights=False),
        "assay": lambda: attack(model, x, y, threat, generator=torch.Generator().manual_seed(0)),
        "with weight gradients": lambda: passes(model, x, y, given.steps, weights=True),
    }
    seconds = {name: [] for name in ways}
    for _ in range(given.repeats + 1):  # the first round warms up
        for name, way in ways.items():
            started = time.process_time()
            way()
            seconds[name].append(time.process_time() - started)
    median = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    ratio = median["assay"] / median["limit"]
    result = {"assay": assay.__version__, "cpu_s": median, "ratio": round(ratio, 3), "bar": BAR, **vars(given)}
    sys.stdout.write(json.dumps(result) + "\n")
    return int(not ratio <= BAR)


def passes(model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int, *, weights: bool) -> None:
    """Forward, cross-entropy and gradient, ``steps`` times."""
    model.requires_grad_(weights)
    for _ in range(steps):
        at = x.clone().requires_grad_()
        loss = functional.cross_entropy(model(at), y, reduction="sum")
        torch.autograd.grad(loss, [at, *(model.parameters() if weights else ())])
    model.requires_grad_(True)


def keep_memory() -> None:
    """Let glibc serve large blocks from a heap that does not shrink; elsewhere nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


if __name__ == "__main__":
    sys.exit(main())
