"""Sets of classes that hold the true one as often as promised."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion
from assay.evaluate.aspects.scene import Floats, Found, Scene
from assay.evidence import robust
from assay.intervals import bounded_mean
from assay.report import html

Ints = npt.NDArray[np.int64]

__all__ = ["Conformal", "cut"]


@dataclass(frozen=True, kw_only=True)
class Conformal:
    """Split conformal prediction: every class above a cut that another set of records gives, and how often that holds.

    With ``fit_on`` from where the hold-out is from, the set of a new record holds its true class with a chance of at
    least ``coverage``, whatever the model. ``conformal_coverage`` is the share for which it does, with this cut;
    ``conformal_set_size`` how many classes a set has, in the mean. Under a threat, ``/<threat key>``, nothing is
    promised: that is what one run of the strongest attack leaves. Of an answer that is not finite the set is empty.

    Fields:
        fit_on: evaluation set with the model's classes, none of whose records is in the hold-out.
        coverage: what is promised.
        under_attack: measure under every threat too.

    Reference: Sadinle, Lei, Wasserman. Least Ambiguous Set-Valued Classifiers With Bounded Error Levels. Journal of the
        American Statistical Association 114 (2019), 223-234. arXiv:1609.00451.
    """

    fit_on: str
    coverage: float = 0.9
    under_attack: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            raise UnfitInput("aspects.conformal: coverage", str(self.coverage), "a share in (0, 1)")

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        other = scene.apart(self.fit_on)
        least = cut(scene.logits(scene.tensor(other.x)), other.y, self.coverage)
        found = _measured(scene.logits(scene.x), scene.data.y, least, scene.confidence)
        for threat in scene.plan.threats if self.under_attack else ():
            attacked = _measured(scene.logits(scene.attacked(threat)), scene.data.y, least, scene.confidence)
            found |= {robust(name, threat): estimate for name, estimate in attacked.items()}
        table = html.table(["estimate", "value", "records"], [(name, each, each.n) for name, each in found.items()])
        lead = f"Promised: {self.coverage:.0%} of sets hold the true class, where nobody attacks."
        return Found(found, html.section("Conformal sets", table, lead=lead), facts={"cut": least})


def cut(logits: Floats, y: Ints, coverage: float) -> float:
    """The least probability that a class of a set has: of n records, all but floor((n + 1) (1 - coverage)) reach it.

    0, and so every class, where the records are too few for the coverage, or too many have no finite answer.
    """
    true = np.sort(_probabilities(logits)[np.arange(len(y)), y])
    left = math.floor((len(y) + 1) * (1 - coverage) + 1e-9)
    return float(true[left - 1]) if left >= 1 else 0.0


def _measured(logits: Floats, y: Ints, least: float, confidence: float) -> dict[str, Estimate]:
    inside = _probabilities(logits) >= least
    inside &= np.asarray(np.isfinite(logits).all(axis=1))[:, None]
    held = inside[np.arange(len(y)), y]
    classes = inside.shape[1]
    return {
        "conformal_coverage": proportion(int(held.sum()), len(y), confidence),
        "conformal_set_size": bounded_mean(int(inside.sum()), len(y), classes, classes, confidence),
    }


def _probabilities(logits: Floats) -> Floats:
    """(N, K); 0 where an answer is not finite."""
    finite = np.asarray(np.isfinite(logits).all(axis=1))[:, None]
    found: Floats = np.where(finite, softmax(np.where(finite, logits, 0.0), axis=1), 0.0)
    return found
