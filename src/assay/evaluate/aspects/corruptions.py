"""What remains in fog, out of focus, after compression: no adversary, only the world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from assay.errors import UnfitInput, UnknownName
from assay.estimate import Estimate, proportion
from assay.evaluate.aspects.scene import Found, Scene
from assay.evaluate.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from assay.evaluate.holdout import require_fit
from assay.evaluate.ladder import right
from assay.intervals import bounded_mean, least_mean, mean_ratio
from assay.models.folder import load_model
from assay.report import diagrams, html, plots

Bools = npt.NDArray[np.bool_]

__all__ = ["Corruptions"]


@dataclass(frozen=True, kw_only=True)
class Corruptions:
    """Accuracy under fifteen common corruptions at five severities (see `assay.evaluate.corruptions`).

    ``corrupted_accuracy`` is the mean over all of them, ``corrupted_accuracy[corruption=<name>]`` over the severities
    of one; each record counts with the share of its corrupted copies that are right. The rule `worst_slice` with ``by:
    corruption`` asks each for a bar; ``worst_corrupted_accuracy`` is the least of them, its interval at once for all.

    With a ``baseline`` to compare with, ``mean_corruption_error`` (mCE) is the mean over corruptions of the model's
    error in units of the baseline's on the same copies; the baseline is a yardstick, taken as it measures, so the
    interval is about the model alone.

    Fields:
        kinds: corruptions; empty for all.
        baseline: folder of a model of the same input and classes; empty for none.
        limit: records at most, the first of them; 0 for all.
    """

    kinds: tuple[str, ...] = ()
    baseline: str = ""
    limit: int = 0

    def __post_init__(self) -> None:
        for name in self.kinds:
            if name not in CORRUPTIONS:
                raise UnknownName("corruption", name, CORRUPTIONS)
        if self.limit < 0:
            raise UnfitInput("aspects.corruptions: limit", str(self.limit), "0 or more")

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        if scene.x.ndim != 4:
            raise UnfitInput("aspects.corruptions", f"records of shape {tuple(scene.x.shape[1:])}", "images")
        kinds = self.kinds or tuple(CORRUPTIONS)
        baseline = self._baseline(scene)
        models = [scene.model, *([baseline[0]] if baseline else [])]
        held = self._right(models, scene, kinds)
        found = _accuracies(held[0], kinds, scene.confidence)
        facts: dict[str, Any] = {"corrupted_records": held[0].shape[0]}
        if baseline is not None:
            found |= _relative(held[0], held[1], scene.confidence)
            facts["baseline_model"] = baseline[1]
        shares = held[0].mean(0)
        title = "Accuracy by corruption and severity"
        drawn = diagrams.heat_map(kinds, [str(each) for each in SEVERITIES], shares, title=title, axis="severity")
        rows = [plots.Interval.of(name, each) for name, each in found.items() if each.high <= 1]
        figures = [html.figure(drawn), html.figure(plots.intervals(rows, title="Accuracy under corruption"))]
        cells = [(name, *(_cell(held[0][:, at, s], scene) for s in range(5))) for at, name in enumerate(kinds)]
        table = html.table(["corruption", *(f"severity {each}" for each in SEVERITIES)], cells)
        return Found(found, html.section("Common corruptions", *figures, table), facts=facts)

    def _right(self, models: list[nn.Module], scene: Scene, kinds: tuple[str, ...]) -> list[Bools]:
        """For each model (N, kinds, 5): whether it is right about each corrupted copy."""
        low, high = scene.spec.bounds
        count = min(self.limit or len(scene.x), len(scene.x))
        parts: list[list[Bools]] = [[] for _ in models]
        for _, rows, generator in scene.blocks("corruptions"):
            rows = slice(rows.start, min(rows.stop, count))
            if rows.start >= count:
                break
            x, y, seed = scene.data.x[rows], scene.y[rows], generator.initial_seed()
            unit = (x.astype(np.float64) - low) / (high - low)
            block = np.empty((len(models), len(x), len(kinds), len(SEVERITIES)), dtype=np.bool_)
            for at, name in enumerate(kinds):
                for place, severity in enumerate(SEVERITIES):
                    made = low + (high - low) * corrupt(unit, name, severity, seed + at)
                    copies = scene.tensor(np.clip(made, low, high).astype(np.float32))
                    for which, model in enumerate(models):
                        block[which, :, at, place] = right(model, copies, y).cpu().numpy()
            for which, part in enumerate(parts):
                part.append(block[which])
        return [np.concatenate(part) for part in parts]

    def _baseline(self, scene: Scene) -> tuple[nn.Module, str] | None:
        if not self.baseline:
            return None
        loaded = load_model(Path(self.baseline))
        require_fit(scene.data, loaded.spec, "baseline")
        return loaded.module.to(scene.x.device), loaded.digest


def _accuracies(held: Bools, kinds: tuple[str, ...], confidence: float) -> dict[str, Estimate]:
    """Of (N, kinds, 5)."""
    count, copies = len(held), held[0].size
    found = {"corrupted_accuracy": bounded_mean(int(held.sum()), count, copies, 1, confidence)}
    sums = [int(held[:, at].sum()) for at in range(len(kinds))]
    for name, total in zip(kinds, sums, strict=True):
        found[f"corrupted_accuracy[corruption={name}]"] = bounded_mean(total, count, len(SEVERITIES), 1, confidence)
    found["worst_corrupted_accuracy"] = least_mean(sums, count, len(SEVERITIES), confidence)
    return found


def _relative(held: Bools, yardstick: Bools, confidence: float) -> dict[str, Estimate]:
    """Mean corruption error in units of another model's; none where the other makes no error at all."""
    errors, units = (~held).sum((0, 2)), (~yardstick).sum((0, 2))
    if not (units > 0).all():
        return {}
    totals = [int(error) for error in errors], [int(unit) for unit in units]
    return {"mean_corruption_error": mean_ratio(*totals, len(held), len(SEVERITIES), confidence)}


def _cell(held: Bools, scene: Scene) -> str:
    share = proportion(int(held.sum()), len(held), scene.confidence)
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
