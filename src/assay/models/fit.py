"""The plain training loop: Adam over seeded orders, the same bytes every time."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import nn

from assay.errors import AssayError
from assay.models.checkpoint import Checkpoint
from assay.progress import track
from assay.threat import ThreatModel

__all__ = ["Examples", "Method", "Optimisation", "deterministic", "fit", "generator_for"]


class Method(Protocol):
    """A frozen dataclass whose fields are its whole configuration.

    Attributes:
        defends: whether the loss is that of attacked inputs, so that the model was trained against the threat.
        task: what the labels are. Left out it is ``classification``: y are the numbers of classes. A ``regression``
            has y (N,) floating point, in units of their spread, and a model that gives (N, 1).
    """

    defends: ClassVar[bool]

    def loss(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, *, threat: ThreatModel, generator: torch.Generator
    ) -> torch.Tensor:
        """The loss of each example, (N,), differentiable in the parameters.

        Args:
            model: maps (N, ...) to logits (N, K); in training mode, and left so.
            x: (N, ...) floating point, inside ``threat.bounds``.
            y: (N,) int64 in [0, K).
            threat: what an attack may do.
            generator: the only source of randomness.
        """
        ...


@dataclass(frozen=True)
class Examples:
    """What is learned from, all on one device.

    Fields:
        x: (N, ...) float32. y: (N,) int64, or float32 quantities. weight: (N,) float32 with mean 1.
    """

    x: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """Settings of Adam and of the order, as in `TrainConfig`."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int


def fit(
    model: nn.Module,
    examples: Examples,
    method: Method,
    threat: ThreatModel,
    settings: Optimisation,
    checkpoint: Checkpoint | None = None,
) -> list[float]:
    """Train a model in place and leave it in eval mode; returns the mean loss of every epoch.

    Every epoch draws its order and its attacks from generators seeded by (seed, epoch), so that a run that was
    interrupted goes on from its checkpoint with the same numbers; within `deterministic`, to the same bytes.

    Raises:
        AssayError: the loss is no longer finite.
    """
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
    )
    model.train()
    losses = checkpoint.load(model, optimizer) if checkpoint else []
    for epoch in track(range(len(losses), settings.epochs), "train", settings.epochs - len(losses)):
        losses.append(_epoch(model, optimizer, examples, method, threat, settings, epoch))
        if checkpoint:
            checkpoint.save(model, optimizer, losses)
    model.eval()
    return losses


def _epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    examples: Examples,
    method: Method,
    threat: ThreatModel,
    settings: Optimisation,
    epoch: int,
) -> float:
    order = torch.randperm(len(examples.y), generator=generator_for(settings.seed, "order", epoch))
    attacks = generator_for(settings.seed, "attack", epoch)
    total = 0.0
    for rows in torch.split(order.to(examples.y.device), settings.batch_size):
        x, y, weight = examples.x[rows], examples.y[rows], examples.weight[rows]
        loss = method.loss(model, x, y, threat=threat, generator=attacks) * weight
        optimizer.zero_grad()
        torch.autograd.backward(loss.mean())
        optimizer.step()
        total += float(loss.detach().double().sum())
    if not math.isfinite(total):
        raise AssayError(
            f"training, epoch {epoch + 1}", "a loss that is not finite", "a finite one", "Lower train.learning_rate."
        )
    return total / len(examples.y)


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator of its own for each purpose, from one seed."""
    name = ":".join(map(str, (seed, *purpose)))
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:7]))


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Within the block, torch computes equal bytes from equal inputs: fixed threads, deterministic algorithms."""
    threads_before, mode_before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, without loading the compiler: 2.6 s
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_deterministic_debug_mode(mode_before)
