"""How far a record has to be moved until the model takes it for something else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from markupsafe import Markup

from assay.attacks.geometry import size
from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion
from assay.evaluate import soundness
from assay.evaluate.aspects.scene import Found, Scene, rounded
from assay.evaluate.ladder import right
from assay.evidence import robust
from assay.intervals import cut_mean, cut_median
from assay.models.fit import generator_for
from assay.report import diagrams, html
from assay.threat import ThreatModel

CELLS = 200
NARROWED = 12

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

__all__ = ["Distortion"]


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """The least perturbation that changes the answer, record by record: its median and its mean over the hold-out.

    Robust accuracy says how many stand at one radius, this at which radius they fall. For the norm and box of every
    threat the strongest configured attack is tried at radii that are halved where it succeeds and raised where it does
    not; what it finds is moved back towards the record as long as it stays wrong, and its size counts. That is an upper
    bound, as robust accuracy is: a stronger attack may find less.

    A record that is wrong as it is counts as 0. One that no try moves counts as the greatest radius that was tried,
    ``reach`` times that of the threat, or the whole box, so both numbers are those of the distortion cut off there, and
    the name says where: ``median_distortion/<norm>:<radius>`` and ``mean_distortion/<norm>:<radius>``. A median that is
    this radius says that at least half of the records stand there. Sizes are rounded down, to the two hundredth part of
    the radius or, in ``l0``, not at all.

    The interval of the median is that of order statistics, which holds whatever the distribution; that of the mean is
    Chernoff-Hoeffding's.

    Fields:
        reach: greatest radius, in units of the threat's.
        halvings: of the radius.
        limit: records at most, the first of them; 0 for all.

    References: Moosavi-Dezfooli, Fawzi and Frossard. DeepFool. CVPR 2016, eq. 1 and 2 (robustness as the mean least
        perturbation). Thompson. On Confidence Ranges for the Median. Annals of Mathematical Statistics 7 (1936).
    """

    reach: float = 4.0
    halvings: int = 5
    limit: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.reach < float("inf") or self.halvings < 0 or self.limit < 0:
            got = f"reach {self.reach}, halvings {self.halvings}, limit {self.limit}"
            raise UnfitInput("aspects.distortion", got, "a reach of at least 1, the others not below 0")

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        found: dict[str, Estimate] = {}
        figures, never = [], {}
        for ball in dict.fromkeys(self._farthest(scene, threat) for threat in scene.plan.threats):
            cells = _cells(ball)
            sizes = self._sizes(scene, ball)
            at = np.floor(np.minimum(sizes / ball.epsilon, 1) * cells + 1e-6).astype(np.int64)
            found[robust("median_distortion", ball)] = cut_median(_counted(at, cells), ball.epsilon, scene.confidence)
            mean = cut_mean(int(at.sum()), len(at), cells, ball.epsilon, scene.confidence)
            found[robust("mean_distortion", ball)] = mean
            never[ball.key] = int(np.isinf(sizes).sum())
            figures.append(html.figure(_curve(at, ball, scene.confidence)))
        rows = [(name, each, each.n, each.method) for name, each in found.items()]
        table = html.table(["estimate", "value", "records", "method"], rows)
        lead = "Records that nothing moved count as the greatest radius tried, which ends the name of the estimate."
        facts = {"never_moved": never}
        return Found(
            found, html.section("Distortion until the answer changes", *figures, table, lead=lead), facts=facts
        )

    def _farthest(self, scene: Scene, threat: ThreatModel) -> ThreatModel:
        """The greatest ball that is tried."""
        radius = min(self.reach * threat.epsilon, soundness.box_size(threat, scene.x[0].numel()))
        return replace(threat, epsilon=float(int(radius)) if threat.norm == "l0" else rounded(radius))

    def _sizes(self, scene: Scene, ball: ThreatModel) -> Floats:
        """(N,) the least perturbation found; 0 for what is wrong as it is, infinite where none was."""
        count = min(self.limit or len(scene.x), len(scene.x))
        parts = [
            self._of_block(scene, ball, index, slice(rows.start, min(rows.stop, count)))
            for index, rows, _ in scene.blocks("distortion")
            if rows.start < count
        ]
        return np.concatenate(parts)

    def _of_block(self, scene: Scene, ball: ThreatModel, block: int, rows: slice) -> Floats:
        x, y = scene.x[rows], scene.y[rows]
        least = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        least[~right(scene.model, x, y)] = 0.0
        low, high = torch.zeros_like(least), torch.full_like(least, torch.inf)
        radius = torch.full_like(least, ball.epsilon)
        for _ in range(self.halvings + 1):
            tried = (least > 0) & (low < radius) & (radius < high)
            for each in sorted(set(radius[tried].tolist())):
                at = torch.nonzero(tried & (radius == each)).flatten()
                found = self._moved(scene, replace(ball, epsilon=each), x[at], y[at], block)
                fell = torch.isfinite(found)
                least[at] = torch.minimum(least[at], found)
                high[at[fell]], low[at[~fell]] = each, each
            radius, high = _next(least, low, high, ball)
        return np.asarray(least.cpu().numpy())

    def _moved(self, scene: Scene, ball: ThreatModel, x: torch.Tensor, y: torch.Tensor, block: int) -> torch.Tensor:
        """(M,) float64: the size of the perturbation found in this ball, infinite where there is none."""
        generator = generator_for(scene.plan.seed, "distortion", ball.key, block)
        found = scene.aimed(ball, x, y, generator)
        wrong = ~right(scene.model, found, y)
        found = _narrowed(scene, ball, x, y, found)
        return torch.where(wrong, size(ball, (found - x).double()), torch.inf)


def _next(
    least: torch.Tensor, low: torch.Tensor, high: torch.Tensor, ball: ThreatModel
) -> tuple[torch.Tensor, torch.Tensor]:
    """The radius to try, half way between what stood and what fell, and what is known to fall without a try."""
    while True:
        middle = (low + high) / 2
        middle = middle.floor() if ball.norm == "l0" else middle
        known = (least > 0) & (least <= middle) & (low < middle) & (middle < high)
        if not bool(known.any()):
            return middle, high
        high = torch.where(known, middle, high)


def _narrowed(scene: Scene, ball: ThreatModel, x: torch.Tensor, y: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """The points moved back towards x by halving, as long as they stay wrong.

    In ``l0``, and where a table has constraints, what lies between may not be allowed: there they stay as they are.
    """
    if ball.norm == "l0" or ball.constraints is not None:
        return found
    wide = (-1, *(1 for _ in x.shape[1:]))
    stands, falls = torch.zeros(len(x), device=x.device), torch.ones(len(x), device=x.device)
    for _ in range(NARROWED):
        middle = (stands + falls) / 2
        wrong = ~right(scene.model, x + middle.reshape(wide) * (found - x), y)
        falls, stands = torch.where(wrong, middle, falls), torch.where(wrong, stands, middle)
    return x + falls.reshape(wide) * (found - x)


def _cells(ball: ThreatModel) -> int:
    return int(ball.epsilon) if ball.norm == "l0" else CELLS


def _counted(at: Ints, cells: int) -> list[int]:
    counts: list[int] = np.bincount(at, minlength=cells + 1).tolist()
    return counts


def _curve(at: Ints, ball: ThreatModel, confidence: float) -> Markup:
    """The share of records that have not fallen yet, over the radius."""
    cells, shown = _cells(ball), np.linspace(0, _cells(ball), 21).astype(int)
    line = [
        (ball.epsilon * cell / cells, proportion(int((at >= cell).sum()), len(at), confidence))
        for cell in dict.fromkeys(shown[1:].tolist())
    ]
    names = (f"distortion ({ball.norm})", "share that needs as much")
    return diagrams.curves({"records": line}, title=f"Distortion until the answer changes, {ball.norm}", names=names)
