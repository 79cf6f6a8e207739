"""Certified accuracy of the smoothed classifier: what randomized smoothing proves in l2."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion
from assay.evaluate.aspects.scene import Found, Scene, rounded
from assay.evaluate.fast import agreeing, fast, pays
from assay.evaluate.smoothing import ABSTAINS, CHUNK_RECORDS, Smoothed, radius_of, smooth
from assay.evidence import robust
from assay.intervals import UNITS, certified_share
from assay.report import diagrams, html
from assay.threads import in_threads
from assay.threat import ThreatModel

SMALL_CHUNK = 1024
"""Copies a pass for a network that does not convolve."""
POINTS = 41

__all__ = ["Smoothing"]


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """Randomized smoothing: the share of records whose smoothed answer is right and provably stays so within a radius.

    ``certified_accuracy[smoothed=<sigma>]/l2:<radius>`` and ``smoothed_accuracy[smoothed=<sigma>]`` (right without
    abstaining). They are about the smoothed classifier, which answers with the most frequent class over noisy copies,
    never about the network alone: who serves the network has no such certificate. The rule `certified_at_least` asks
    for it by ``smoothed``.

    All radii hold together but for a chance of ``alpha``: each is computed at alpha / N. The lower end of the interval
    has that chance added.

    Fields:
        sigma: of the noise, in the units of the input.
        samples: noisy copies of a record that bound the share of its class; the radius is at most sigma *
            Phi^-1((alpha / N) ** (1 / samples)).
        selection: copies that choose the class.
        alpha: chance that any radius is too large; the later the attempt of a gate, the smaller it has to be.
        radii: in units of sigma, for the estimates.
        limit: records at most, the first of them; 0 for all.
        threads: blocks at the same time; changes no number.
    """

    sigma: float = 0.25
    samples: int = 1000
    selection: int = 100
    alpha: float = 1e-6
    radii: tuple[float, ...] = (0.5, 1.0, 1.5)
    limit: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        whole = min(self.samples, self.selection, self.threads) >= 1 and self.limit >= 0
        if not (whole and self.sigma > 0 and 1 <= self.alpha * UNITS < UNITS / 2):
            got = f"sigma {self.sigma}, samples {self.samples}, selection {self.selection}, alpha {self.alpha}"
            raise UnfitInput("aspects.smoothing", got, "each above 0, alpha in [1e-9, 0.5)")
        if not self.radii or not all(math.isfinite(radius) and radius > 0 for radius in self.radii):
            raise UnfitInput("aspects.smoothing: radii", str(self.radii), "radii above 0")

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        count = min(self.limit or len(scene.x), len(scene.x))
        found = self._certified(scene, count)
        right = found.predicted == scene.data.y[:count]
        risk, tag = math.ceil(self.alpha * UNITS), f"[smoothed={self.sigma:g}]"

        def certified(radius: float) -> Estimate:
            return certified_share(int((right & (found.radius >= radius)).sum()), count, risk, scene.confidence)

        threats = [_ball(scene, radius * self.sigma) for radius in sorted(self.radii)]
        estimates = {robust(f"certified_accuracy{tag}", threat): certified(threat.epsilon) for threat in threats}
        estimates[f"smoothed_accuracy{tag}"] = proportion(int(right.sum()), count, scene.confidence)
        abstained = proportion(int((found.predicted == ABSTAINS).sum()), count, scene.confidence)
        estimates[f"smoothed_abstains{tag}"] = abstained
        cap = radius_of(self.samples, self.samples, self.sigma, self.alpha / count)
        line = [(float(at), certified(float(at))) for at in np.linspace(0, cap, POINTS)]
        title, names = f"Certified accuracy, smoothed with {self.sigma:g}", ("radius (l2)", "share")
        picture = diagrams.curves({"certified": line}, title=title, names=names)
        said = f"Of the smoothed classifier. With {self.samples} copies no radius is greater than {cap:.3g}."
        table = html.table(["estimate", "value", "records"], [(name, each, each.n) for name, each in estimates.items()])
        facts = {"copies": found.samples, "radius_cap": cap, "smoothed_records": count}
        return Found(estimates, html.section("Randomized smoothing", html.figure(picture, said), table), facts=facts)

    def _certified(self, scene: Scene, count: int) -> Smoothed:
        convolves = pays(scene.model)
        model = fast(scene.model, bfloat16=scene.plan.bfloat16) if convolves else scene.model
        blocks = [(rows, generator) for _, rows, generator in scene.blocks("smoothing") if rows.start < count]

        def block(rows: slice, generator: torch.Generator) -> Smoothed:
            x = scene.x[rows.start : min(rows.stop, count)]
            return smooth(
                agreeing(model, x) if convolves else model,
                x,
                sigma=self.sigma,
                selection=self.selection,
                samples=self.samples,
                alpha=self.alpha / count,
                generator=generator,
                chunk=CHUNK_RECORDS if convolves else SMALL_CHUNK,
            )

        workers = self.threads if scene.x.device.type == "cpu" else 1
        with in_threads(workers) as each:
            parts = list(each(lambda place: block(*place), blocks))
        predicted = np.concatenate([part.predicted for part in parts])
        radius = np.concatenate([part.radius for part in parts])
        return Smoothed(predicted, radius, sum(part.samples for part in parts))


def _ball(scene: Scene, radius: float) -> ThreatModel:
    first = scene.plan.threats[0]
    return replace(ThreatModel(norm="l2", epsilon=rounded(radius)), bounds=first.bounds)
