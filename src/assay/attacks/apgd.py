"""Auto-PGD: projected gradient descent that sets its own step."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from itertools import accumulate

import torch
from torch import nn

from assay.attacks.best import Ascended, Best
from assay.attacks.geometry import ahead, project, require_fit
from assay.attacks.objective import Loss
from assay.attacks.starts import Start, begin
from assay.errors import UnfitInput
from assay.threat import ThreatModel

MOMENTUM = 0.75
RISING = 0.75
FIRST_STEP = {"linf": 2.0, "l2": 2.0, "l1": 1.0}
"""In units of epsilon; for L1 that of Croce and Hein, Mind the box, ICML 2021."""

__all__ = ["APGD", "ascend", "checkpoints"]


@dataclass(frozen=True, kw_only=True)
class APGD:
    """Auto-PGD: steps begin at twice epsilon and are halved where the ascent stalls; then it goes on from the best.

    Fields:
        steps: gradient steps per restart; one forward and one backward pass each, and one more of each to begin.
        restarts: independent random starts.
        loss: as in PGD; ``ce`` and ``dlr`` are those of AutoAttack.
        start: ``uniform`` in the ball, or at a corner of it that is constant over ``tiles`` (see `tiled_start`).
        samples: answers of the model that every gradient is the mean of; for one that answers differently each time.
        drop: let a record leave the batch once it is misclassified.

    Call with: as PGD.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; loss never below that of x.

    Raises:
        UnfitInput: x leaves the box, or the model is in training mode or has no gradient.

    Reference: Croce and Hein. Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
        Attacks. ICML 2020, algorithm 1. arXiv:2003.01690.
    """

    steps: int = 100
    restarts: int = 1
    loss: Loss = "ce"
    start: Start = "uniform"
    samples: int = 1
    drop: bool = False

    def __post_init__(self) -> None:
        if min(self.steps, self.restarts, self.samples) < 1:
            got = f"steps {self.steps}, restarts {self.restarts}, samples {self.samples}"
            raise UnfitInput("attacks.apgd", got, "all at least 1")

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        require_fit(model, x, y, threat)
        x = x.detach()
        best = Best(model, x, y, self.loss, drop=self.drop, samples=self.samples)
        for _ in range(self.restarts):
            ascend(best, x, threat, begin(self.start, threat, x, generator), self.steps)
        return best.x_adv


@dataclass(frozen=True)
class _State:
    """Of each example still attacked: where it is and was, the best point, and how the ascent goes."""

    x: torch.Tensor
    here: torch.Tensor
    before: torch.Tensor
    gradient: torch.Tensor
    loss: torch.Tensor
    top: torch.Tensor
    top_gradient: torch.Tensor
    top_loss: torch.Tensor
    step: torch.Tensor
    rises: torch.Tensor
    checked: torch.Tensor
    halved: torch.Tensor

    def of(self, rows: torch.Tensor) -> _State:
        return _State(*(getattr(self, field.name)[rows] for field in fields(self)))


def ascend(
    best: Best,
    x: torch.Tensor,
    threat: ThreatModel,
    start: torch.Tensor,
    steps: int,
    ascended: Ascended | None = None,
) -> None:
    """Algorithm 1 from one start; ``best`` remembers what is found.

    Args:
        best: the examples; what it drops is attacked no more.
        x: (N, ...) all examples.
        threat: ball and box.
        start: (N, ...) where to begin.
        steps: gradient steps.
        ascended: the loss, if not that of ``best``.
    """
    if not len(best.rows):
        return
    rows = best.rows
    state = _begin(best, x[rows], start[rows], threat, ascended)
    last, checks = 0, checkpoints(steps)
    for number in range(1, steps + 1):
        if (stays := best.leave()) is not None:
            state = state.of(stays)
        if not len(best.rows):
            return
        state = _step(best, state, threat, 1.0 if number == 1 else MOMENTUM, ascended)
        if number in checks:
            state, last = _check(state, number - last), number
    best.leave()


def checkpoints(steps: int) -> list[int]:
    """The steps after which the step size is looked at: shares .22, .41, .57, ... of the steps (section 3.1)."""
    gaps = [0.22]
    while sum(gaps) < 1:
        gaps.append(max(gaps[-1] - 0.03, 0.06))
    return sorted({math.ceil(share * steps - 1e-9) for share in accumulate(gaps) if share <= 1})


def _begin(best: Best, x: torch.Tensor, here: torch.Tensor, threat: ThreatModel, ascended: Ascended | None) -> _State:
    gradient, loss = best.gradient(here, ascended)
    length = FIRST_STEP[threat.norm] * threat.epsilon
    step = torch.full((len(x), *(1 for _ in x.shape[1:])), length, dtype=x.dtype, device=x.device)
    none = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    return _State(x, here, here, gradient, loss, here, gradient, loss, step, none.long(), loss, none)


def _step(best: Best, at: _State, threat: ThreatModel, new: float, ascended: Ascended | None) -> _State:
    """One step and its momentum (eq. 3 and 4), and what is found there."""
    moved = project(threat, at.x, ahead(threat, at.here, at.gradient, at.step))
    here = project(threat, at.x, at.here + new * (moved - at.here) + (1 - new) * (at.here - at.before))
    gradient, loss = best.gradient(here, ascended)
    better = loss > at.top_loss
    wide = better.reshape(at.step.shape)
    return replace(
        at,
        here=here,
        before=at.here,
        gradient=gradient,
        loss=loss,
        top=torch.where(wide, here, at.top),
        top_gradient=torch.where(wide, gradient, at.top_gradient),
        top_loss=torch.where(better, loss, at.top_loss),
        rises=at.rises + (loss > at.loss),
    )


def _check(at: _State, window: int) -> _State:
    """Halve the step and go back to the best point where too few steps rose, or none since the last check did."""
    stuck = (at.rises < RISING * window) | (~at.halved & (at.top_loss <= at.checked))
    wide = stuck.reshape(at.step.shape)
    return replace(
        at,
        here=torch.where(wide, at.top, at.here),
        gradient=torch.where(wide, at.top_gradient, at.gradient),
        loss=torch.where(stuck, at.top_loss, at.loss),
        step=torch.where(wide, at.step / 2, at.step),
        rises=torch.zeros_like(at.rises),
        checked=at.top_loss,
        halved=stuck,
    )
