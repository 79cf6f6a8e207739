"""The search for the weight of being wrong against being near, for attacks that look for the least perturbation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch

from assay.attacks.best import Best
from assay.attacks.geometry import project
from assay.threat import ThreatModel

__all__ = ["Search", "search_weights"]


@dataclass(frozen=True)
class Search:
    """Of each record still attacked: x, the weight and what bounds it, and whether this weight broke it anywhere.

    Reference: Carlini and Wagner. Towards Evaluating the Robustness of Neural Networks. S&P 2017, section VI A.
        arXiv:1608.04644.
    """

    x: torch.Tensor
    weight: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    found: torch.Tensor

    @classmethod
    def begin(cls, x: torch.Tensor, weight: float) -> Search:
        """The first weight, for each of (N, ...) records."""
        first = torch.full((len(x),), weight, dtype=x.dtype, device=x.device)
        none = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return cls(x, first, torch.zeros_like(first), torch.full_like(first, torch.inf), none)

    def of(self, rows: torch.Tensor) -> Search:
        """Of some of the records."""
        return Search(*(getattr(self, field.name)[rows] for field in fields(self)))

    def next(self) -> Search:
        """A weight half way to the bound, ten times the last where there is no upper one yet."""
        low = torch.where(self.found, self.low, self.weight)
        high = torch.where(self.found, self.weight, self.high)
        weight = torch.where(high.isinf(), 10 * self.weight, (low + high) / 2)
        return replace(self, weight=weight, low=low, high=high, found=torch.zeros_like(self.found))


Descend = Callable[[Best, Search, ThreatModel], tuple[Search, torch.Tensor]]


def search_weights(best: Best, threat: ThreatModel, descend: Descend, weight: float, searches: int) -> torch.Tensor:
    """The descent for one weight after another, and the best of all the points that it looked at.

    Args:
        best: what was found so far, of all records.
        threat: its ball and box.
        descend: asked for the records still attacked; gives back those that did not leave, and (N, ...) where it ended.
        weight: the first, in units of the squared width of the box.
        searches: weights tried, each from x anew.

    Returns:
        x_adv: shape, dtype and device of the records.
    """
    width = threat.bounds[1] - threat.bounds[0]
    search = Search.begin(best.x_adv[best.rows], weight * width**2)
    for _ in range(searches):
        search, ended = descend(best, search, threat)
        if len(best.rows):
            best.look(project(threat, search.x, ended))
            if (stays := best.leave()) is not None:
                search = search.of(stays)
        if not len(best.rows):
            break
        search = search.next()
    return best.x_adv
