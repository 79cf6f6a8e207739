"""Does the model notice that a record is of a kind it never learned?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax, logsumexp
from scipy.stats import rankdata
from torch import nn

from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion
from assay.evaluate.aspects.scene import Floats, Found, Scene
from assay.evaluate.blocks import BLOCK_RECORDS
from assay.intervals import bounded_mean
from assay.report import html, plots

PARTS = 10**6
REJECTED = 0.05
RIDGE = 1e-6

Score = Literal["msp", "energy", "mahalanobis"]
Scorer = Callable[[torch.Tensor], Floats]

__all__ = ["OutOfDistribution", "auroc", "false_positive_rate"]


@dataclass(frozen=True, kw_only=True)
class OutOfDistribution:
    """How well a score of the model tells records of the hold-out from others, which are of no class it knows.

    ``ood_auroc[<score>]/<set>``: the chance that a record of the hold-out scores above one of the other set.
    ``ood_fpr95[<score>]/<set>``: the share of the others that are accepted where 95 % of the hold-out are. Scores:
    ``msp``, the greatest probability; ``energy``, the log of the sum of exponentials of the logits; ``mahalanobis``,
    how near the features before the last layer are to those of a class. A record of the hold-out without a finite
    answer scores lowest, one of the others highest.

    Fields:
        sets: names of evaluation sets; their labels are not looked at.
        made: sets that are made here, as many records as the hold-out has: ``noise``, uniform in the box, and
            ``permuted``, records of the hold-out with their features in random order.
        scores: which.
        fit_on: evaluation set, none of whose records is in the hold-out, whose features give means and covariance for
            ``mahalanobis``; without it that score is left out.

    References:
        Hendrycks, Gimpel. A Baseline for Detecting Misclassified and Out-of-Distribution Examples. ICLR 2017.
        Liu et al. Energy-based Out-of-distribution Detection. NeurIPS 2020. arXiv:2010.03759.
        Lee et al. A Simple Unified Framework for Detecting Out-of-Distribution Samples. NeurIPS 2018. arXiv:1807.03888.
    """

    sets: tuple[str, ...] = ()
    made: tuple[Literal["noise", "permuted"], ...] = ("noise", "permuted")
    scores: tuple[Score, ...] = ("msp", "energy", "mahalanobis")
    fit_on: str = ""

    def __post_init__(self) -> None:
        if not self.scores or not (self.sets or self.made):
            raise UnfitInput("aspects.out_of_distribution", "no score or no set", "one of each at least")
        if set(self.sets) & set(self.made):
            raise UnfitInput("aspects.out_of_distribution: sets", f"{self.sets} and {self.made}", "each name once")

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        others = {name: scene.tensor(scene.set(name).x) for name in self.sets}
        others |= {name: _made(scene, name) for name in self.made}
        found: dict[str, Estimate] = {}
        for name in self.scores:
            scorer = self._scorer(scene, name)
            if scorer is None:
                continue
            inside = np.nan_to_num(scorer(scene.x), nan=-np.inf)
            for other, x in others.items():
                outside = np.nan_to_num(scorer(x), nan=np.inf, posinf=np.inf, neginf=-np.inf)
                found[f"ood_auroc[{name}]/{other}"] = auroc(inside, outside, scene.confidence)
                found[f"ood_fpr95[{name}]/{other}"] = false_positive_rate(inside, outside, scene.confidence)
        rows = [plots.Interval.of(name, each) for name, each in found.items()]
        drawn = plots.intervals(rows, title="Telling other records apart", axis="AUROC, or share accepted")
        table = html.table(["estimate", "value", "records"], [(name, each, each.n) for name, each in found.items()])
        lead = "AUROC of 0.5 is chance; of FPR95 the lower the better."
        parts = [html.figure(drawn), table]
        if "mahalanobis" in self.scores and not self.fit_on:
            parts.append(html.missing("mahalanobis", "No set to fit it on was named."))
        return Found(found, html.section("Out of distribution", *parts, lead=lead))

    def _scorer(self, scene: Scene, name: Score) -> Scorer | None:
        if name == "mahalanobis":
            return _mahalanobis(scene, self.fit_on) if self.fit_on else None
        if name == "msp":
            return lambda x: _finite(scene.logits(x), lambda logits: log_softmax(logits, axis=1).max(1))
        return lambda x: _finite(scene.logits(x), lambda logits: logsumexp(logits, axis=1))


def auroc(inside: Floats, outside: Floats, confidence: float = 0.95) -> Estimate:
    """The chance that one of ``inside`` scores above one of ``outside``; equal scores count half.

    A two-sample U-statistic is a mean of means of min(m, n) independent pairs, so the Chernoff-Hoeffding bound of so
    many records holds for it, whatever the distributions.

    Reference: Hoeffding, Journal of the American Statistical Association 58 (1963), section 5b.
    """
    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    above = ranks.sum() - len(inside) * (len(inside) + 1) / 2
    pairs = min(len(inside), len(outside))
    share = above / (len(inside) * len(outside)) if pairs else 0.0
    return bounded_mean(round(share * PARTS) * pairs, pairs, PARTS, 1, confidence)


def false_positive_rate(inside: Floats, outside: Floats, confidence: float = 0.95) -> Estimate:
    """The share of ``outside`` that scores no lower than at least 95 % of ``inside`` do; exact for that threshold."""
    threshold = np.sort(inside)[int(REJECTED * len(inside))]
    return proportion(int((outside >= threshold).sum()), len(outside), confidence)


def _made(scene: Scene, name: str) -> torch.Tensor:
    """As many records as the hold-out has."""
    parts, (low, high) = [], scene.spec.bounds
    for _, rows, generator in scene.blocks(f"out_of_distribution/{name}"):
        x = scene.x[rows]
        drawn = torch.rand(x.shape, generator=generator)
        order = drawn.flatten(1).argsort(1).to(x.device)
        moved = x.flatten(1).gather(1, order).reshape(x.shape)
        parts.append(low + (high - low) * drawn.to(x.device) if name == "noise" else moved)
    return torch.cat(parts)


def _mahalanobis(scene: Scene, fit_on: str) -> Scorer:
    """Minus the least squared distance to a class mean, in units of the covariance that the classes share."""
    records = scene.apart(fit_on)
    features = _features(scene, scene.tensor(records.x))
    present = np.unique(records.y)
    means = np.stack([features[records.y == label].mean(0) for label in present])
    centred = features - means[np.searchsorted(present, records.y)]
    covariance = centred.T @ centred / len(centred)
    ridge = RIDGE * max(float(np.trace(covariance)) / len(covariance), 1e-12)
    inverse = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))

    def score(x: torch.Tensor) -> Floats:
        found = _features(scene, x)
        away = found[:, None] - means[None]
        distance: Floats = np.einsum("nkd,de,nke->nk", away, inverse, away).min(1)
        return np.where(np.isfinite(distance), -distance, np.nan)

    return score


def _features(scene: Scene, x: torch.Tensor) -> Floats:
    """(N, D) float64: what the last fully connected layer is given."""
    layers = [module for module in scene.model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UnfitInput("out_of_distribution: mahalanobis", "no fully connected layer", "one, last")
    seen: list[torch.Tensor] = []
    handle = layers[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(1)))
    try:
        with torch.no_grad():
            for part in torch.split(x, BLOCK_RECORDS):
                scene.model(part)
    finally:
        handle.remove()
    found: Floats = torch.cat(seen).double().cpu().numpy()
    return found


def _finite(logits: Floats, score: Callable[[Floats], npt.NDArray[np.float64]]) -> Floats:
    finite = np.asarray(np.isfinite(logits).all(axis=1))
    return np.where(finite, score(np.where(finite[:, None], logits, 0.0)), np.nan)
