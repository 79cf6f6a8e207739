"""HopSkipJump: a walk along the border that asks the model for its decision alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from assay.attacks.best import Best
from assay.attacks.geometry import project, require_fit, size, steepest
from assay.attacks.objective import fooled
from assay.errors import UnfitInput
from assay.threat import Norm, ThreatModel

BISECTIONS, STARTS, HALVINGS = 10, 20, 6

__all__ = ["HopSkipJump"]


@dataclass(frozen=True, kw_only=True)
class HopSkipJump:
    """From a misclassified point back to the border, the slope of the border from votes there, a step along it, again.

    Only the predicted class is used, never a logit: a model that hides gradients and scores gains nothing. It shrinks
    the perturbation from outside, and what it reaches inside the ball counts.

    Fields:
        steps: walks along the border.
        probes: votes in the first step; they grow with the root of the step.
        drop: let a record leave the batch once it is misclassified inside the ball.

    Call with: as PGD, with ``linf`` or ``l2``.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; margin never below that of x.

    Raises:
        UnfitInput: another norm, x leaves the box, or the model is in training mode.

    Reference: Chen, Jordan and Wainwright. HopSkipJumpAttack: A Query-Efficient Decision-Based Attack. S&P 2020,
        algorithm 2. arXiv:1904.02144.
    """

    steps: int = 20
    probes: int = 50
    drop: bool = False

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    gradient_free: ClassVar[bool] = True
    decision_based: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.steps, self.probes) < 1:
            raise UnfitInput("attacks.hopskipjump", f"steps {self.steps}, probes {self.probes}", "both at least 1")

    @property
    def queries(self) -> int:
        """Forward passes that a record which stands costs."""
        votes = sum(int(self.probes * step**0.5) for step in range(1, self.steps + 1))
        return STARTS + BISECTIONS + votes + self.steps * (HALVINGS + BISECTIONS + 1)

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        require_fit(model, x, y, threat, self.norms)
        x = x.detach()
        best = Best(model, x, y, "margin", drop=self.drop)
        with torch.no_grad():
            x, y = x[best.rows], y[best.rows]
            here, begun = _start(model, x, y, threat, generator)
            here = _border(model, x, here, y)
            for step in range(1, self.steps + 1):
                best.look(torch.where(_wide(begun, x), project(threat, x, here), x))
                if (stays := best.leave()) is not None:
                    x, y, here, begun = x[stays], y[stays], here[stays], begun[stays]
                if not len(best.rows):
                    return best.x_adv
                moved = self._walk(model, x, here, y, threat, step, generator)
                nearer = begun & (size(threat, moved - x) < size(threat, here - x))
                here = torch.where(_wide(nearer, x), moved, here)
            best.look(torch.where(_wide(begun, x), project(threat, x, here), x))
            best.leave()
        return best.x_adv

    def _walk(
        self,
        model: nn.Module,
        x: torch.Tensor,
        here: torch.Tensor,
        y: torch.Tensor,
        threat: ThreatModel,
        step: int,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """One estimate of the slope (eq. 16), a step that stays misclassified, and back to the border."""
        features = x[0].numel()
        distance = size(threat, here - x)
        reach = distance / features if threat.norm == "linf" else distance / features**0.5
        votes = int(self.probes * step**0.5)
        shape = (votes, *x.shape)
        noise = torch.randn(shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
        noise = noise / noise.flatten(2).norm(dim=2).clamp_min(1e-12).reshape(*shape[:2], *(1 for _ in x.shape[1:]))
        unit = reach * (features**0.5 if threat.norm == "linf" else 1.0)
        probed = (here + _wide(unit, x) * noise).clamp(*threat.bounds)
        agree = torch.stack([fooled(model(each), y) for each in probed]).to(x) * 2 - 1
        agree = agree - torch.where(
            agree.abs().mean(0) == 1, agree.mean(0) / 2, agree.mean(0)
        )  # lower variance: eq. 16
        moves = (probed - here) / _wide(unit.clamp_min(1e-12), x)
        slope = (agree.reshape(*agree.shape, *(1 for _ in x.shape[1:])) * moves).mean(0)
        direction, length = steepest(threat, slope), distance / step**0.5
        there = here
        waiting = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for _ in range(HALVINGS):
            tried = (here + _wide(length, x) * direction).clamp(*threat.bounds)
            hit = waiting & fooled(model(tried), y)
            there = torch.where(_wide(hit, x), tried, there)
            waiting, length = waiting & ~hit, length / 2
        return _border(model, x, there, y)


def _start(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A misclassified point of the box for each record, by blind luck; and which records had any."""
    low, high = threat.bounds
    here, begun = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for _ in range(STARTS):
        drawn = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
        drawn = low + (high - low) * drawn
        hit = ~begun & fooled(model(drawn), y)
        here, begun = torch.where(_wide(hit, x), drawn, here), begun | hit
    return here, begun


def _border(model: nn.Module, x: torch.Tensor, here: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The misclassified point nearest to the border on the way from here to x, by bisection."""
    low = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    high = torch.ones_like(low)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        hit = fooled(model(x + _wide(middle, x) * (here - x)), y)
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    at: torch.Tensor = x + _wide(high, x) * (here - x)
    return at


def _wide(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, *(1 for _ in x.shape[1:]))
