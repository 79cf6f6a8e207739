"""The proxy: a small network fitted by the filter itself, for its representation alone. Torch is imported only here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.filters import Floats, Labels

BATCH = 64
LEAST_STEPS, MOST_STEPS = 200, 4000
LARGEST = 10.0

__all__ = ["Proxy", "Scaling", "fit_proxy", "fixed_threads"]

Inputs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scaling:
    """Mean and spread of the inputs: one pair an image channel, one pair a table column.

    A column without spread is only centred. Values are cut at ten spreads, so that one absurd number cannot own the
    network.
    """

    mean: Inputs
    spread: Inputs

    @classmethod
    def of(cls, x: Inputs) -> Scaling:
        """From inputs (N, C, H, W) or (N, D)."""
        axes = (0, 2, 3) if x.ndim == 4 else (0,)
        spread = x.std(axis=axes, keepdims=True, dtype=np.float64)
        mean = x.mean(axis=axes, keepdims=True, dtype=np.float64)
        return cls(mean.astype(np.float32), np.where(spread > 0, spread, 1).astype(np.float32))

    def __call__(self, x: Inputs) -> Tensor:
        """Standardised tensor."""
        return torch.from_numpy(np.clip((x - self.mean) / self.spread, -LARGEST, LARGEST).astype(np.float32))


class Proxy(nn.Module):
    """Two convolutions, or none for tables, then two dense layers; ``width`` activations below the classes."""

    def __init__(self, shape: tuple[int, ...], classes: int, width: int = 64) -> None:
        super().__init__()
        if len(shape) == 3:
            self.body = _convolutions(shape)
            inside = 16 * min(4, shape[1]) * min(4, shape[2])
        else:
            self.body = nn.Sequential(nn.Linear(shape[0], 2 * width), nn.ReLU())
            inside = 2 * width
        self.penultimate = nn.Linear(inside, width)
        self.classes = nn.Linear(width, classes)

    def activations(self, x: Tensor) -> Tensor:
        """Penultimate activations (N, width), after the rectifier."""
        return functional.relu(self.penultimate(self.body(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = self.classes(self.activations(x))
        return logits

    @torch.no_grad()
    def measure(self, x: Tensor) -> tuple[Floats, Floats]:
        """Activations (N, width) and class log-probabilities (N, K), float64."""
        parts = [self.activations(part) for part in torch.split(x, 1024)]
        activations = torch.cat(parts)
        logits = torch.log_softmax(self.classes(activations).double(), dim=1)
        return activations.double().numpy(), logits.numpy()


def fit_proxy(x: Tensor, y: Labels, classes: int, *, epochs: int, seed: int) -> Proxy:
    """Fit a proxy by cross-entropy with Adam, the step size falling to zero; same seed, same threads, same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Proxy(tuple(x.shape[1:]), classes)
    labels = torch.tensor(y)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-4, fused=True)
    batches = list(_batches(len(y), epochs, torch.Generator().manual_seed(seed)))
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, total_iters=len(batches))
    for rows in batches:
        optimiser.zero_grad()
        functional.cross_entropy(model(x[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return model.eval()


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Run a block with a fixed number of torch threads, because another number gives other bytes."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batches(records: int, epochs: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled batches of so many epochs, within the bounds on gradient steps."""
    steps = min(MOST_STEPS, max(LEAST_STEPS, epochs * -(-records // BATCH)))
    while steps > 0:
        for rows in torch.split(torch.randperm(records, generator=generator), BATCH)[:steps]:
            steps -= 1
            yield rows


def _convolutions(shape: tuple[int, ...]) -> nn.Sequential:
    channels, height, width = shape
    shrink = [nn.MaxPool2d(2)] if min(height, width) >= 16 else []
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
        *shrink,
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d((min(4, height), min(4, width))),
        nn.Flatten(),
    )
