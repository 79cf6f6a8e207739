"""Do stated certainties come true as often as they say?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion
from assay.evaluate.aspects.scene import Floats, Found, Scene
from assay.evidence import robust
from assay.intervals import UNITS, Bin, binned_error, bounded_mean
from assay.report import diagrams, html

PARTS = 10**6
WORST_LOSS = 14
COOLEST, HOTTEST = 1e-3, 1e3

__all__ = ["Calibration", "binned", "certainty", "temperature"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Expected calibration error, Brier score and log loss, clean and under attack; a temperature that mends it.

    ``calibration_error`` sums over bins of equal width how far the mean stated certainty is from the share that is
    right; ``calibration_error[equal_mass]`` over bins of equally many records. ``brier_score`` is the squared distance
    of the probabilities from the truth, in [0, 2]; ``log_loss`` counts a probability below exp(-14) as exp(-14). Under
    a threat they are measured where one run of the strongest attack ends. An answer that is not finite counts as sure
    and wrong.

    With ``fit_on`` a temperature is fitted to a set of other records, by log loss, and ``calibration_error[scaled]``
    and ``log_loss[scaled]`` say what dividing the logits by it gives. The model itself stays as it is.

    Fields:
        bins: of equal width, and of equal mass.
        fit_on: name of an evaluation set, none of whose records is in the hold-out; empty for no temperature.
        under_attack: measure under every threat too.

    Reference: Guo, Pleiss, Sun, Weinberger. On Calibration of Modern Neural Networks. ICML 2017. arXiv:1706.04599.
    """

    bins: int = 10
    fit_on: str = ""
    under_attack: bool = True

    def __post_init__(self) -> None:
        if not 2 <= self.bins <= 100:
            raise UnfitInput("aspects.calibration: bins", str(self.bins), "2 to 100")

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        y, clean = scene.data.y, scene.logits(scene.x)
        found = self._measured(clean, y, scene.confidence)
        for threat in scene.plan.threats if self.under_attack else ():
            attacked = self._measured(scene.logits(scene.attacked(threat)), y, scene.confidence)
            found |= {robust(name, threat): estimate for name, estimate in attacked.items()}
        facts = {}
        if self.fit_on:
            other = scene.apart(self.fit_on)
            facts["temperature"] = temperature(scene.logits(scene.tensor(other.x)), other.y)
            scaled = self._measured(clean / facts["temperature"], y, scene.confidence)
            found |= {f"{name}[scaled]": scaled[name] for name in ("calibration_error", "log_loss")}
        return Found(found, self._section(clean, y, found, facts, scene.confidence), facts=facts)

    def _measured(self, logits: Floats, y: Ints, confidence: float) -> dict[str, Estimate]:
        stated, right = certainty(logits, y)
        squares, losses = _scores(logits, y)
        return {
            "calibration_error": binned_error(binned(stated, right, self.bins), confidence),
            "calibration_error[equal_mass]": binned_error(binned(stated, right, self.bins, mass=True), confidence),
            "brier_score": bounded_mean(_parts(squares, 2), len(y), PARTS, 2, confidence),
            "log_loss": bounded_mean(_parts(losses, WORST_LOSS), len(y), PARTS, WORST_LOSS, confidence),
        }

    def _section(
        self, logits: Floats, y: Ints, found: dict[str, Estimate], facts: dict[str, float], confidence: float
    ) -> Markup:
        stated, right = certainty(logits, y)
        full = [it for it in binned(stated, right, self.bins) if it.trials]
        drawn = diagrams.reliability(
            [it.stated / UNITS / it.trials for it in full],
            [proportion(it.successes, it.trials, confidence) for it in full],
            title="Share of right answers over stated certainty",
        )
        caption = "Each point is a bin of equal width; on the dashed line what is stated comes true."
        if facts:
            caption += f" A temperature of {facts['temperature']:.3g} was fitted to the set {self.fit_on}."
        rows = [(name, each, each.n) for name, each in found.items()]
        table = html.table(["estimate", "value", "records"], rows)
        return html.section("Calibration", html.figure(drawn, caption), table)


def certainty(logits: Floats, y: Ints) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """(N,) the greatest probability of softmax, and whether its class is the true one; sure and wrong if not finite."""
    finite = _finite(logits)
    log = log_softmax(np.where(finite[:, None], logits, 0.0), axis=1)
    return np.where(finite, np.exp(log.max(1)), 1.0), finite & (log.argmax(1) == y)


def binned(stated: Floats, right: npt.NDArray[np.bool_], bins: int, *, mass: bool = False) -> list[Bin]:
    """Records by their stated certainty, in bins (low, high] of equal width over [0, 1], or of equal mass.

    Records of equal certainty share a bin of equal mass, so what a bin holds depends on certainties alone.
    """
    edges = np.quantile(stated, np.arange(1, bins) / bins) if mass else np.arange(1, bins) / bins
    which = np.searchsorted(edges, stated, side="left")
    units = np.minimum(np.round(stated * UNITS), UNITS).astype(np.int64)
    return [
        Bin(trials=int(of.sum()), successes=int(right[of].sum()), stated=int(units[of].sum()))
        for of in (which == at for at in range(bins))
    ]


def temperature(logits: Floats, y: Ints) -> float:
    """What to divide logits (N, K) by for the least log loss; convex in its inverse.

    Raises:
        UnfitInput: logits that are not finite.
    """
    if not np.isfinite(logits).all():
        raise UnfitInput("temperature", "logits that are not finite", "finite logits on the set to fit on")

    def loss(log_scale: float) -> float:
        log = log_softmax(logits * math.exp(-log_scale), axis=1)
        return float(-log[np.arange(len(y)), y].mean())

    ends = (math.log(COOLEST), math.log(HOTTEST))
    return math.exp(float(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-8}).x))


def _scores(logits: Floats, y: Ints) -> tuple[Floats, Floats]:
    """(N,) squared distance of the probabilities from the truth, and log loss; the worst where not finite."""
    finite, rows = _finite(logits), np.arange(len(y))
    log = log_softmax(np.where(finite[:, None], logits, 0.0), axis=1)
    truth = np.zeros_like(log)
    truth[rows, y] = 1
    squares = ((np.exp(log) - truth) ** 2).sum(1)
    return np.where(finite, squares, 2.0), np.where(finite, -log[rows, y], WORST_LOSS)


def _finite(logits: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(logits).all(axis=1))


def _parts(values: Floats, width: int) -> int:
    """The sum of values in [0, width], each in whole parts."""
    return int(np.round(np.clip(values / width, 0, 1) * PARTS).astype(np.int64).sum())
