"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from assay.attacks.best import Best
from assay.attacks.geometry import ahead, project, require_fit
from assay.attacks.objective import Loss
from assay.attacks.starts import Start, begin
from assay.errors import UnfitInput
from assay.threat import ThreatModel

REACH = {"linf": 2.5, "l2": 5.0, "l1": 5.0}

__all__ = ["PGD"]


@dataclass(frozen=True, kw_only=True)
class PGD:
    """Projected gradient descent: the first-order attack of Madry et al. (2018), eq. 2.1.

    Ascends the loss from ``restarts`` uniform starts and keeps, per example, the point of highest loss; a misclassified
    point goes before one that is not. One step moves ``reach * epsilon / steps`` in the threat model's norm. Only
    gradients with respect to x are computed.

    Fields:
        steps: gradient steps per restart; one forward and one backward pass each.
        restarts: independent random starts.
        reach: path length in units of epsilon, at least 2, so a start on one face of the ball can cross to the
            opposite face. None takes 2.5 for ``linf`` and 5 for ``l2``: on the L2 sphere the angle to the gradient
            shrinks only as tan(t/2) -> exp(-reach) tan(t/2), so 2.5 would leave up to 2.5 % of the budget unused.
        loss: ``ce``, cross-entropy (through the log odds, which it is monotone in, so that it does not
            saturate); ``margin``, the greatest other logit minus the true one; ``dlr``, that in units of the
            gap to the third logit; ``probability``, the margin of the probabilities.
        momentum: share of the last direction that is carried into the next, below 1; gradients are first divided by
            their mean absolute value (Dong et al. 2018, eq. 6). 0 is plain PGD.
        start: ``uniform`` in the ball, or at a corner of it that is constant over ``tiles`` (see `tiled_start`).
        samples: answers of the model that every gradient is the mean of; for one that answers differently each time.
        drop: let a record leave the batch once it is misclassified. Then the points are no longer those of highest
            loss, but exactly the same records are misclassified, for less work.

    Call with:
        model: maps (N, ...) to logits (N, K); in eval mode; not modified.
        x: (N, ...) floating point, inside ``threat.bounds``.
        y: (N,) int64 in [0, K), the true classes.
        threat: norm, radius and box; epsilon in the units of x.
        generator: the only source of randomness, on the CPU or the device of x; same state, same result.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; loss never below that of x.

    Raises:
        UnfitInput: x leaves the box, the model is in training mode or has no gradient, or reach < 2.

    Reference: Madry et al. Towards Deep Learning Models Resistant to Adversarial Attacks.
        ICLR 2018. arXiv:1706.06083. Momentum: Dong et al. Boosting Adversarial Attacks with Momentum. CVPR 2018.
        arXiv:1710.06081.
    """

    steps: int = 40
    restarts: int = 5
    reach: float | None = None
    loss: Loss = "ce"
    start: Start = "uniform"
    momentum: float = 0.0
    samples: int = 1
    drop: bool = False

    def __post_init__(self) -> None:
        if min(self.steps, self.restarts, self.samples) < 1:
            got = f"steps {self.steps}, restarts {self.restarts}, samples {self.samples}"
            raise UnfitInput("attacks.pgd", got, "all at least 1")
        if self.reach is not None and not 2 <= self.reach < float("inf"):
            raise UnfitInput("attacks.pgd: reach", str(self.reach), "at least 2, the diameter of the ball")
        if not 0 <= self.momentum < 1:
            raise UnfitInput("attacks.pgd: momentum", str(self.momentum), "a share in [0, 1)")

    def __call__(
        self,
        model: nn.Module,
        x: torch.Tensor,
        y: torch.Tensor,
        threat: ThreatModel,
        *,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        require_fit(model, x, y, threat)
        x = x.detach()
        best = Best(model, x, y, self.loss, drop=self.drop, samples=self.samples)
        for _ in range(self.restarts):
            self._ascend(best, x, threat, begin(self.start, threat, x, generator))
        return best.x_adv

    def _ascend(self, best: Best, x: torch.Tensor, threat: ThreatModel, start: torch.Tensor) -> None:
        step = (REACH[threat.norm] if self.reach is None else self.reach) * threat.epsilon / self.steps
        x, x_adv = x[best.rows], start[best.rows]
        carried = torch.zeros_like(x)
        for _ in range(self.steps):
            if not len(best.rows):
                return
            carried = self.momentum * carried + self._scaled(best.gradient(x_adv)[0])
            x_adv = project(threat, x, ahead(threat, x_adv, carried, step))
            if (stays := best.leave()) is not None:
                x, x_adv, carried = x[stays], x_adv[stays], carried[stays]
        best.look(x_adv)
        best.leave()

    def _scaled(self, gradient: torch.Tensor) -> torch.Tensor:
        """With momentum, each gradient in units of its mean absolute value."""
        if not self.momentum:
            return gradient
        mean = gradient.flatten(1).abs().mean(1).clamp_min(torch.finfo(gradient.dtype).tiny)
        return gradient / mean.reshape(-1, *(1 for _ in gradient.shape[1:]))
