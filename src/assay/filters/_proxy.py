"""The proxy: a small network fitted by the filter itself, for its representation alone. Torch is imported only here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.data.held import HeldRows, row_blocks
from assay.filters import Floats, Labels

BATCH, LARGE_BATCH, MANY = 64, 256, 8192
Network = TypeVar("Network", bound=nn.Module)
LEAST_STEPS, MOST_RECORDS = 200, 256_000
LARGEST = 10.0
SIDE, MOST_INPUTS, MEASURED = 8, 1024, 1024

__all__ = [
    "Proxy",
    "Scaled",
    "Scaling",
    "descent",
    "fit_proxy",
    "fixed_threads",
    "in_a_row",
    "pieces",
    "place_of",
    "seeded",
]

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
    def of(cls, x: Inputs | HeldRows) -> Scaling:
        """From inputs (N, C, H, W) or (N, D), block by block: the same bits whether they are held or in memory."""
        axes, none = ((0, 2, 3), np.zeros((1, x.shape[1], 1, 1))) if x.ndim == 4 else ((0,), np.zeros((1, x.shape[1])))
        count = max(1, math.prod(x.shape) // max(1, x.shape[1]))

        def mean_of(distance: Callable[[Floats], Floats]) -> Floats:
            blocks = (distance(x[rows].astype(np.float64)) for rows in row_blocks(x.shape))
            return np.asarray(sum((block.sum(axis=axes, keepdims=True) for block in blocks), none) / count)

        mean = mean_of(lambda block: block)
        spread = np.sqrt(mean_of(lambda block: (block - mean) ** 2))
        return cls(mean.astype(np.float32), np.where(spread > 0, spread, 1).astype(np.float32))

    def __call__(self, x: Inputs) -> Tensor:
        """Standardised tensor."""
        return torch.from_numpy(np.clip((x - self.mean) / self.spread, -LARGEST, LARGEST).astype(np.float32))


@dataclass(frozen=True)
class Scaled:
    """Inputs one after the other, of which those rows are standardised that are asked for.

    Fields:
        scaling: of all of them.
        parts: (N, ...) each, of records of one shape.
        chosen: which rows of the parts together these are, in order; None for all.
    """

    scaling: Scaling
    parts: tuple[Inputs | HeldRows, ...]
    chosen: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return sum(map(len, self.parts)) if self.chosen is None else len(self.chosen)

    @property
    def shape(self) -> tuple[int, ...]:
        """As of a tensor."""
        return (len(self), *self.parts[0].shape[1:])

    def only(self, chosen: npt.NDArray[np.int64]) -> Scaled:
        """Some of the rows; of all, not of a choice of them."""
        return Scaled(self.scaling, self.parts, chosen)

    def __getitem__(self, rows: Any) -> Tensor:
        """Standardised tensor of some rows: a slice, or their numbers."""
        if len(self.parts) == 1 and self.chosen is None:
            return self.scaling(self.parts[0][rows])
        at = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        at = at if self.chosen is None else self.chosen[at]
        found = np.empty((len(at), *self.shape[1:]), np.float32)
        first = 0
        for part in self.parts:
            mine = (at >= first) & (at < first + len(part))
            found[mine] = part[at[mine] - first]
            first += len(part)
        return self.scaling(found)


def pieces(x: Tensor | Scaled, device: torch.device | None = None) -> Iterator[Tensor]:
    """Rows in turn, at most so many at a time as are measured together; at least one piece, which may be empty."""
    for first in range(0, max(1, len(x)), MEASURED):
        yield x[first : first + MEASURED].to(device)


def place_of(model: nn.Module) -> torch.device:
    """Where a network is."""
    return next(model.parameters()).device


class Proxy(nn.Module):
    """Convolutions, or none for tables, then two dense layers; ``width`` activations below the classes."""

    def __init__(self, shape: tuple[int, ...], classes: int, width: int = 64) -> None:
        super().__init__()
        if len(shape) == 3:
            self.body, inside = _convolutions(shape)
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
    def measure(self, x: Tensor | Scaled) -> tuple[Floats, Floats]:
        """Activations (N, width) and class log-probabilities (N, K), float64."""
        parts = [self.activations(part) for part in pieces(x, place_of(self))]
        activations = torch.cat(parts)
        logits = torch.log_softmax(self.classes(activations).double(), dim=1)
        return activations.double().cpu().numpy(), logits.cpu().numpy()

    @torch.no_grad()
    def overlaid(self, x: Tensor | Scaled, overlays: Tensor) -> Floats:
        """Entropy, in nats, of the answers for records (N, ...) with each overlay (P, ...) added to them: (N, P)."""
        found, device = [], place_of(self)
        for part in pieces(x, device):
            for overlay in overlays.to(device):
                said = torch.log_softmax(self((part + overlay).clamp(-LARGEST, LARGEST)).double(), dim=1)
                found.append(-(said.exp() * said).sum(dim=1))
        parts = [torch.stack(found[at : at + len(overlays)], dim=1) for at in range(0, len(found), len(overlays))]
        return torch.cat(parts).cpu().numpy() if parts else np.empty((0, len(overlays)))


def fit_proxy(
    x: Tensor | Scaled, y: Labels, classes: int, *, epochs: int, seed: int, device: torch.device | None = None
) -> Proxy:
    """Fit a proxy by cross-entropy with Adam, the step size falling to zero; same seed, same threads, same weights.

    Many records are taken in larger batches, by steps twice as long: a third of the time for the same fit. Channels lie
    last in memory: a quarter less.
    """
    batch, rate = (BATCH, 3e-3) if len(y) < MANY else (LARGE_BATCH, 6e-3)
    model = seeded(lambda: Proxy(tuple(x.shape[1:]), classes), seed, device)
    labels = torch.tensor(y)
    batches = list(_batches(len(y), epochs, batch, torch.Generator().manual_seed(seed)))
    step = descent(model, rate, len(batches))
    for rows in batches:
        step(functional.cross_entropy(model(x[rows].to(device)), labels[rows].to(device)))
    return model.eval()


def seeded(build: Callable[[], Network], seed: int, device: torch.device | None = None) -> Network:
    """A network with the weights of a seed, whatever was drawn before; channels lie last in memory."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def descent(model: nn.Module, rate: float, steps: int) -> Callable[[Tensor], None]:
    """What takes one step of Adam down a loss; the step size falls from ``rate`` to zero over so many of them."""
    optimiser = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, total_iters=steps)

    def step(loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()

    return step


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Run a block with a fixed number of torch threads, because another number gives other bytes."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_a_row(x: Tensor) -> Inputs:
    """Inputs (N, at most 1,024) float32: images of more numbers are averaged over blocks, wider tables cut short."""
    if x.dim() == 4 and math.prod(x.shape[1:]) > MOST_INPUTS:
        side = max(1, int((MOST_INPUTS / x.shape[1]) ** 0.5))
        x = functional.adaptive_avg_pool2d(x, (min(side, x.shape[2]), min(side, x.shape[3])))
    return np.asarray(x.flatten(1)[:, :MOST_INPUTS].numpy())


def _batches(records: int, epochs: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled batches of so many epochs, within the bounds on gradient steps."""
    steps = min(MOST_RECORDS // size, max(LEAST_STEPS, epochs * -(-records // size)))
    while steps > 0:
        for rows in torch.split(torch.randperm(records, generator=generator), size)[:steps]:
            steps -= 1
            yield rows


def _convolutions(shape: tuple[int, ...]) -> tuple[nn.Sequential, int]:
    """The layers below the dense ones, and how many numbers they give.

    Small images keep their resolution; larger ones are halved by strides, which cost a fraction of pooling.
    """
    channels, height, width = shape
    if min(height, width) < 2 * SIDE:
        small = [nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()]
        pooled = min(4, height), min(4, width)
        return nn.Sequential(*small, nn.AdaptiveMaxPool2d(pooled), nn.Flatten()), 16 * pooled[0] * pooled[1]
    layers: list[nn.Module] = []
    filters, kernel = 8, 4
    while max(height, width) > SIDE:
        layers += [nn.Conv2d(channels, filters, kernel, stride=2, padding=1), nn.ReLU()]
        channels, height, width = filters, (height + 2 - kernel) // 2 + 1, (width + 2 - kernel) // 2 + 1
        filters, kernel = min(64, 2 * filters), 3
    return nn.Sequential(*layers, nn.Flatten()), channels * height * width
