"""Feature squeezing as a detector: does the answer change when detail that a picture does not need is taken away?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.special import softmax

from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion
from assay.evaluate.aspects.out_of_distribution import auroc
from assay.evaluate.aspects.scene import Floats, Found, Scene
from assay.evaluate.ladder import right
from assay.evidence import robust
from assay.report import html

__all__ = ["Squeezing", "squeezed"]


@dataclass(frozen=True, kw_only=True)
class Squeezing:
    """How many adversarial examples feature squeezing notices, and how often it cries wolf.

    The score is the greatest distance (L1) between the probabilities of a record and of its squeezed copies: fewer bits
    of depth, and the median over a small window of an image. Its threshold is what ``false_alarm_rate`` of the records
    of another set exceed. ``squeezing_false_alarms`` is the share of the hold-out above it;
    ``squeezing_recall/<threat>`` the share above it of the records that one run of the strongest attack turned from
    right to wrong; ``squeezing_auroc/<threat>`` needs no threshold. The attack does not know of the detector: one that
    does evades it more often, so this says what it adds against who does not look, and nothing of robustness.

    Fields:
        fit_on: evaluation set, none of whose records is in the hold-out.
        bits: depths to squeeze to.
        window: side of the median's window, in pixels; 1 for none.
        false_alarm_rate: share of clean records that may exceed the threshold.

    Reference: Xu, Evans, Qi. Feature Squeezing. NDSS 2018. arXiv:1704.01155.
    """

    fit_on: str
    bits: tuple[int, ...] = (3,)
    window: int = 2
    false_alarm_rate: float = 0.05

    def __post_init__(self) -> None:
        if not (0 < self.false_alarm_rate < 1 and self.window >= 1 and all(1 <= bits <= 16 for bits in self.bits)):
            got = f"bits {self.bits}, window {self.window}, false_alarm_rate {self.false_alarm_rate}"
            raise UnfitInput("aspects.squeezing", got, "1 to 16 bits, a window of at least 1, a rate in (0, 1)")
        if not self.bits and self.window == 1:
            raise UnfitInput("aspects.squeezing", "no squeezer", "bits, or a window above 1")

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        known = self._score(scene, scene.tensor(scene.apart(self.fit_on).x))
        threshold = float(np.quantile(known, 1 - self.false_alarm_rate, method="higher"))
        clean = self._score(scene, scene.x)
        found = {"squeezing_false_alarms": _share(clean > threshold, scene.confidence)}
        sure = right(scene.model, scene.x, scene.y)
        for threat in scene.plan.threats:
            x_adv = scene.attacked(threat)
            fell = (sure & ~right(scene.model, x_adv, scene.y)).cpu().numpy()
            score = self._score(scene, x_adv)[fell]
            found[robust("squeezing_recall", threat)] = _share(score > threshold, scene.confidence)
            found[robust("squeezing_auroc", threat)] = auroc(score, clean, scene.confidence)
        table = html.table(["estimate", "value", "records"], [(name, each, each.n) for name, each in found.items()])
        lead = "Of attacks that do not know of the detector."
        return Found(found, html.section("Feature squeezing", table, lead=lead), facts={"threshold": threshold})

    def _score(self, scene: Scene, x: torch.Tensor) -> Floats:
        """(N,) the greatest distance over the squeezers, 2 at most and where an answer is not finite."""
        plain = softmax(scene.logits(x), axis=1)
        raw, found = x.cpu().numpy(), np.zeros(len(x))
        for copies in squeezed(raw, self.bits, self.window, scene.spec.bounds):
            away = np.abs(softmax(scene.logits(scene.tensor(copies)), axis=1) - plain).sum(1)
            found = np.maximum(found, np.nan_to_num(away, nan=2.0))
        return found


def squeezed(
    x: npt.NDArray[np.float32], bits: tuple[int, ...], window: int, bounds: tuple[float, float]
) -> list[npt.NDArray[np.float32]]:
    """Copies of records (N, ...): one for each depth, and for images (N, C, H, W) one of medians."""
    low, high = bounds
    copies = []
    for depth in bits:
        steps = 2**depth - 1
        copies.append((low + np.round((x - low) / (high - low) * steps) / steps * (high - low)).astype(np.float32))
    if window > 1 and x.ndim == 4:
        copies.append(ndimage.median_filter(x, (1, 1, window, window), mode="reflect"))
    return copies


def _share(flagged: npt.NDArray[np.bool_], confidence: float) -> Estimate:
    return proportion(int(flagged.sum()), len(flagged), confidence)
