"""Turned and moved: the worst of every angle and place on a grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion
from assay.evaluate.aspects.scene import Found, Scene
from assay.evaluate.corruptions.field import Images, grid, sampled
from assay.evaluate.ladder import right
from assay.report import html, plots

Bools = npt.NDArray[np.bool_]
Pose = tuple[float, float, float]
"""Degrees, rows down, columns to the right."""

__all__ = ["RotationTranslation", "posed"]


@dataclass(frozen=True, kw_only=True)
class RotationTranslation:
    """Accuracy on the worst of all rotations and translations of a grid: no gradient, and exact on that grid.

    ``spatial_accuracy[rotation=<degrees>,translation=<pixels>]`` is the share of records that are right as they are
    and at every angle and place of the grid; ``[rotation=<degrees>]`` and ``[translation=<pixels>]`` the same of
    turning alone and of moving alone. Pictures turn about their middle, then move; between pixels they are bilinear,
    and what comes in from beyond the edge repeats the last pixel. Perturbations in a norm say nothing about this one.

    Fields:
        rotation: greatest angle, in degrees, either way.
        translation: greatest way, in pixels, along rows and columns, either way.
        angles: of the grid, an odd number, so that 0 is one of them.
        places: of the grid along either side, an odd number.
        limit: records at most, the first of them; 0 for all.

    Reference: Engstrom, Tran, Tsipras, Schmidt and Madry. Exploring the Landscape of Spatial Robustness. ICML 2019
        (the grid search, with its 31 angles and 5 places). arXiv:1712.02779.
    """

    rotation: float = 30.0
    translation: float = 3.0
    angles: int = 31
    places: int = 5
    limit: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.rotation <= 180 and 0 <= self.translation < float("inf") and self.limit >= 0):
            got = f"rotation {self.rotation}, translation {self.translation}, limit {self.limit}"
            raise UnfitInput(
                "aspects.rotation_translation", got, "degrees in [0, 180], pixels and a limit of at least 0"
            )
        if min(self.angles, self.places) < 1 or not (self.angles % 2 and self.places % 2):
            got = f"angles {self.angles}, places {self.places}"
            raise UnfitInput(
                "aspects.rotation_translation", got, "odd numbers, so that the grid holds the picture itself"
            )

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        if scene.x.ndim != 4:
            raise UnfitInput("aspects.rotation_translation", f"records of shape {tuple(scene.x.shape[1:])}", "images")
        count = min(self.limit or len(scene.x), len(scene.x))
        found: dict[str, Estimate] = {}
        for name, poses in self._grids().items():
            parts = [
                self._stand(scene, slice(rows.start, min(rows.stop, count)), poses)
                for _, rows, _ in scene.blocks("rotation_translation")
                if rows.start < count
            ]
            stand = np.concatenate(parts)
            found[f"spatial_accuracy[{name}]"] = proportion(int(stand.sum()), count, scene.confidence)
        drawn = plots.intervals([plots.Interval.of(name, each) for name, each in found.items()], title="Worst pose")
        table = html.table(["estimate", "value", "records"], [(name, each, each.n) for name, each in found.items()])
        facts = {"poses": self.angles * self.places**2}
        return Found(found, html.section("Rotation and translation", html.figure(drawn), table), facts=facts)

    def _grids(self) -> dict[str, list[Pose]]:
        """The poses of each estimate."""
        turns = np.linspace(-self.rotation, self.rotation, self.angles).tolist()
        ways = np.linspace(-self.translation, self.translation, self.places).tolist()
        turned, moved = f"rotation={self.rotation:g}", f"translation={self.translation:g}"
        return {
            turned: [(turn, 0.0, 0.0) for turn in turns],
            moved: [(0.0, down, along) for down, along in product(ways, ways)],
            f"{turned},{moved}": list(product(turns, ways, ways)),
        }

    @staticmethod
    def _stand(scene: Scene, rows: slice, poses: list[Pose]) -> Bools:
        """(N,) right as they are and in every pose; a record that one has broken is not looked at again."""
        stand = right(scene.model, scene.x[rows], scene.y[rows]).cpu().numpy()
        for pose in _outer_first(poses):
            left = np.flatnonzero(stand)
            if not len(left):
                break
            copies = posed(scene.data.x[rows][left].astype(np.float64), pose)
            kept = np.clip(copies, *scene.spec.bounds).astype(np.float32)
            stand[left] = right(scene.model, scene.tensor(kept), scene.y[rows][left]).cpu().numpy()
        return stand


def posed(x: Images, pose: Pose) -> Images:
    """Images (N, C, H, W) turned about their middle, then moved."""
    turn, down, along = pose
    rows, columns = grid(x)
    middle = [(size - 1) / 2 for size in x.shape[2:]]
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    rows, columns = rows - middle[0] - down, columns - middle[1] - along
    return sampled(x, middle[0] + cos * rows + sin * columns, middle[1] - sin * rows + cos * columns)


def _outer_first(poses: list[Pose]) -> Iterator[Pose]:
    """What breaks most comes first, so that little is left for the others; the order changes no number."""
    return iter(sorted(poses, key=lambda pose: -sum(abs(each) for each in pose)))
