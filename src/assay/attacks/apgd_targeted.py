"""Auto-PGD towards one wrong class after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from assay.attacks.apgd import ascend
from assay.attacks.best import Best
from assay.attacks.geometry import require_fit
from assay.attacks.objective import aimed
from assay.attacks.starts import Start, begin
from assay.errors import UnfitInput
from assay.threat import ThreatModel

__all__ = ["APGDTargeted", "nearest_classes"]


@dataclass(frozen=True, kw_only=True)
class APGDTargeted:
    """Auto-PGD aimed at wrong classes, those of the greatest logits first; the record falls to whichever class it can.

    Fields:
        steps: gradient steps per target and restart.
        restarts: independent random starts for each target.
        targets: wrong classes to aim at, at most all of them.
        loss: ``dlr``, the targeted difference of logits ratio (with fewer than four classes see `aimed`), or
            ``margin``, the gap between the two logits.
        start: as in APGD.
        drop: let a record leave the batch once it is misclassified.

    Call with: as PGD.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; margin never below that of x.

    Raises:
        UnfitInput: x leaves the box, or the model is in training mode or has no gradient.

    Reference: Croce and Hein. Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
        Attacks. ICML 2020, eq. 7. arXiv:2003.01690.
    """

    steps: int = 100
    restarts: int = 1
    targets: int = 9
    loss: Literal["dlr", "margin"] = "dlr"
    start: Start = "uniform"
    drop: bool = False

    def __post_init__(self) -> None:
        if min(self.steps, self.restarts, self.targets) < 1:
            got = f"steps {self.steps}, restarts {self.restarts}, targets {self.targets}"
            raise UnfitInput("attacks.apgd_targeted", got, "all at least 1")

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        require_fit(model, x, y, threat)
        x = x.detach()
        best = Best(model, x, y, "margin", drop=self.drop)
        for target in nearest_classes(best.logits, y, self.targets).T:

            def towards(
                logits: torch.Tensor, true: torch.Tensor, rows: torch.Tensor, target: torch.Tensor = target
            ) -> torch.Tensor:
                return aimed(self.loss, logits, true, target[rows])

            for _ in range(self.restarts):
                ascend(best, x, threat, begin(self.start, threat, x, generator), self.steps, towards)
        return best.x_adv


def nearest_classes(logits: torch.Tensor, y: torch.Tensor, count: int) -> torch.Tensor:
    """(N, min(count, K - 1)) int64: the wrong classes of each example, greatest logit first."""
    least = torch.finfo(logits.dtype).min
    others = torch.nan_to_num(logits, nan=least, neginf=least).scatter(1, y[:, None], -torch.inf)
    return others.topk(min(count, logits.shape[1] - 1), dim=1).indices
