"""What no attack, known or unknown, can break: records that provably stay right within a radius."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion
from assay.evaluate.aspects.scene import Found, Scene, rounded
from assay.evaluate.ladder import right
from assay.evaluate.layers import Layer, layers_of
from assay.evaluate.lipschitz import lipschitz, pair_lipschitz
from assay.evaluate.outcomes import STANDS
from assay.evaluate.relaxation import least_margins
from assay.evidence import robust
from assay.report import diagrams, html
from assay.threat import ThreatModel

CHUNK_RECORDS = 16
ROUNDING = 1e-5
"""Room for the rounding of a float32 network, relative to its greatest logit (above 1)."""

Method = Literal["ibp", "crown", "lipschitz"]
Bools = npt.NDArray[np.bool_]

__all__ = ["Certificates"]


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Records that are right and provably stay so: by interval bounds, linear relaxation and a Lipschitz bound.

    ``certified_accuracy/<threat>`` for every threat, and for parts of its radius: the share of records that any of the
    methods certifies. For networks of dense layers, plain convolutions and ReLU, such as ``linear``, ``mlp`` and
    ``small_cnn``; the work grows with the square of the widest layer.

    The check ``certified_stand`` misses when an attack broke a record that was certified: then one of the two is wrong.

    Fields:
        methods: ``ibp``, ``crown`` (nowhere worse than ``ibp``), ``lipschitz`` (global; for ``l2`` above all).
        shares: parts of each threat's radius, 1 among them.
    """

    methods: tuple[Method, ...] = ("crown", "lipschitz")
    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)

    def __post_init__(self) -> None:
        if not self.methods or not self.shares or not all(0 < share <= 1 for share in self.shares):
            got = f"methods {self.methods}, shares {self.shares}"
            raise UnfitInput("aspects.certificates", got, "methods, and shares in (0, 1]")

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        for threat in scene.plan.threats:
            if threat.norm == "l0":
                raise UnfitInput("aspects.certificates", f"threat {threat.key}", "linf, l2 or l1")
        layers = layers_of(scene.model, scene.spec.input_shape)
        sure = right(scene.model, scene.x, scene.y).cpu().numpy()
        found: dict[str, Estimate] = {}
        drawn, rows, stand = [], [], True
        for threat in scene.plan.threats:
            line = [(0.0, proportion(int(sure.sum()), len(sure), scene.confidence))]
            for share in sorted({*self.shares, 1.0}):
                at = replace(threat, epsilon=rounded(share * threat.epsilon))
                by = {method: sure & _certified(layers, scene, at, method) for method in self.methods}
                holds = np.logical_or.reduce(list(by.values()))
                estimate = proportion(int(holds.sum()), len(holds), scene.confidence)
                found[robust("certified_accuracy", at)] = estimate
                line.append((at.epsilon, estimate))
                rows.append((at.key, estimate, *(int(each.sum()) for each in by.values())))
                stand &= share < 1 or not _broken(scene, threat, holds)
            names = (f"radius ({threat.norm})", "certified accuracy")
            picture = diagrams.curves({"certified": line}, title=f"Certified accuracy, {threat.norm}", names=names)
            drawn.append(html.figure(picture, "The first point is clean accuracy. No attack breaks what is certified."))
        table = html.table(["threat", "certified accuracy", *(f"by {method}" for method in self.methods)], rows)
        facts = {"lipschitz_bound": lipschitz(layers)} if "lipschitz" in self.methods else {}
        checks = {"certified_stand": "holds" if stand else "misses"}
        return Found(found, html.section("Certificates", *drawn, table), checks, facts)


def _certified(layers: list[Layer], scene: Scene, threat: ThreatModel, method: Method) -> Bools:
    """(N,) the margin to every other class is proven to stay above zero, with room for rounding."""
    if method == "lipschitz":
        return _by_lipschitz(layers, scene, threat)
    classes, proven = len(scene.spec.classes), []
    for x, y in zip(torch.split(scene.x, CHUNK_RECORDS), torch.split(scene.y, CHUNK_RECORDS), strict=True):
        margins = least_margins(layers, x, y, classes, threat, method)
        others = margins.scatter(1, y[:, None], torch.inf).amin(1)
        proven.append((others > _room(scene, x)).cpu().numpy())
    return np.concatenate(proven)


def _by_lipschitz(layers: list[Layer], scene: Scene, threat: ThreatModel) -> Bools:
    with torch.no_grad():
        logits = scene.model(scene.x).double()
    features = scene.x[0].numel()
    reach = threat.epsilon * (features**0.5 if threat.norm == "linf" else 1.0)  # |delta|_2 <= |delta|_1 too
    gap = logits.gather(1, scene.y[:, None]) - logits
    lost = reach * pair_lipschitz(layers, logits.shape[1]).to(logits)[scene.y]
    left = (gap - lost).scatter(1, scene.y[:, None], torch.inf).amin(1)
    proven: Bools = (left > _room(scene, scene.x)).cpu().numpy()
    return proven


def _room(scene: Scene, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = scene.model(x).double()
    return ROUNDING * logits.abs().amax(1).clamp_min(1)


def _broken(scene: Scene, threat: ThreatModel, certified: Bools) -> bool:
    by = scene.outcomes.by[threat.key]
    return bool((certified[: len(by)] & (by != STANDS)).any())
