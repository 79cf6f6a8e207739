"""Sparse random search: swap changed features for others, asking for logits only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from assay.attacks.best import Best
from assay.attacks.geometry import require_fit
from assay.attacks.l0 import swapped
from assay.attacks.objective import margin
from assay.errors import UnfitInput
from assay.threat import Norm, ThreatModel

SHRINKS = ((50, 2), (200, 4), (500, 5), (1000, 6), (2000, 8), (4000, 10), (6000, 12), (8000, 15), (10_000, 20))

__all__ = ["SparseRS"]


@dataclass(frozen=True, kw_only=True)
class SparseRS:
    """Begin with as many features as may change, each at a random end of the box; swap some, keep what is no worse.

    The share of features that are swapped shrinks as the search goes on, down to one. It needs no gradient, so a model
    that hides its gradient gains nothing.

    Fields:
        queries: proposals for each record; one forward pass each.
        share: of the changed features that the first proposals swap.
        drop: let a record leave the batch once it is misclassified.

    Call with: as PGD, with ``l0``.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; margin never below that of x.

    Raises:
        UnfitInput: another norm, x leaves the box, or the model is in training mode.

    Reference: Croce, Andriushchenko, Singh, Flammarion and Hein. Sparse-RS: a Versatile Framework for Query-Efficient
        Sparse Black-Box Adversarial Attacks. AAAI 2022, algorithm 1 and its schedule. arXiv:2006.12834.
    """

    queries: int = 2000
    share: float = 0.8
    drop: bool = False

    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    gradient_free: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.queries < 1 or not 0 < self.share <= 1:
            got = f"queries {self.queries}, share {self.share}"
            raise UnfitInput("attacks.sparse_rs", got, "at least 1 query and a share in (0, 1]")

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        require_fit(model, x, y, threat, self.norms)
        x = x.detach()
        best = Best(model, x, y, "margin", drop=self.drop)
        origin, count = x.flatten(1)[best.rows], int(threat.epsilon)
        here, loss = origin, margin(best.logits, y)[best.rows]
        for query in range(self.queries):
            if not len(best.rows):
                break
            swaps = max(1, round(self._swapped(query) * count))
            proposed = swapped(origin, here, count, swaps, threat.bounds, generator)
            found = margin(best.look(proposed.view(-1, *x.shape[1:])), y[best.rows])
            better = ~(found < loss) | (query == 0)
            here, loss = torch.where(better[:, None], proposed, here), torch.where(better, found, loss)
            if (stays := best.leave()) is not None:
                origin, here, loss = origin[stays], here[stays], loss[stays]
        return best.x_adv

    def _swapped(self, query: int) -> float:
        """Share of the changed features that are swapped: less at fixed queries of 10,000, scaled to ours."""
        at = query / self.queries * 10_000
        return self.share / next(part for until, part in SHRINKS if at <= until)
