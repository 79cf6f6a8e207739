"""Disagreement of an ensemble as a detector: do models that were trained apart say different things of a record?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax
from torch import nn

from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion
from assay.evaluate.aspects.out_of_distribution import auroc, false_positive_rate
from assay.evaluate.aspects.scene import Floats, Found, Scene
from assay.evaluate.blocks import BLOCK_RECORDS
from assay.evaluate.holdout import require_fit
from assay.evaluate.ladder import right
from assay.evidence import robust
from assay.models.folder import load_model
from assay.report import html

__all__ = ["Disagreement", "disagreement"]


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """How many adversarial examples show by what other models say of them, and how often that cries wolf.

    The score is the mutual information between the answer and which model of the ensemble, this one among them, gave
    it: 0 where all give the same probabilities, log M where each of M is sure of another class. Its threshold is what
    ``false_alarm_rate`` of the records of another set exceed. ``disagreement_false_alarms`` is the share of the
    hold-out above it; ``disagreement_recall/<threat>`` the share above it of the records that one run of the strongest
    attack on this model turned from right to wrong. Without a threshold: ``disagreement_auroc/<threat>``, and
    ``disagreement_fpr95/<threat>``, the share of the hold-out above the score that 95 % of those records reach, exact
    for that score. The attack knows neither detector nor ensemble: one that does evades it more often, so this says
    what it adds against who does not look, and nothing of robustness.

    Fields:
        fit_on: evaluation set, none of whose records is in the hold-out.
        models: folders of the other models, of the same input and classes; at least one, each another.
        false_alarm_rate: share of clean records that may exceed the threshold.

    References:
        Lakshminarayanan, Pritzel, Blundell. Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles.
        NeurIPS 2017. arXiv:1612.01474.
        Smith, Gal. Understanding Measures of Uncertainty for Adversarial Example Detection. UAI 2018. arXiv:1803.08533.
    """

    fit_on: str
    models: tuple[str, ...]
    false_alarm_rate: float = 0.05

    def __post_init__(self) -> None:
        if not self.models or not 0 < self.false_alarm_rate < 1:
            got = f"{len(self.models)} models, false_alarm_rate {self.false_alarm_rate}"
            raise UnfitInput("aspects.disagreement", got, "the folder of another model at least, a rate in (0, 1)")

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        members, digests = self._members(scene)
        known = _scores(members, scene.tensor(scene.apart(self.fit_on).x))
        threshold = float(np.quantile(known, 1 - self.false_alarm_rate, method="higher"))
        clean = _scores(members, scene.x)
        found = {"disagreement_false_alarms": _share(clean > threshold, scene.confidence)}
        sure = right(scene.model, scene.x, scene.y)
        for threat in scene.plan.threats:
            x_adv = scene.attacked(threat)
            fell = sure & ~right(scene.model, x_adv, scene.y)
            score = _scores(members, x_adv[fell])
            found[robust("disagreement_recall", threat)] = _share(score > threshold, scene.confidence)
            found[robust("disagreement_auroc", threat)] = auroc(score, clean, scene.confidence)
            if len(score):
                found[robust("disagreement_fpr95", threat)] = false_positive_rate(score, clean, scene.confidence)
        table = html.table(["estimate", "value", "records"], [(name, each, each.n) for name, each in found.items()])
        lead = f"Between {len(members)} models, of attacks on one that do not know of the others."
        facts = {"models": digests, "threshold": threshold}
        return Found(found, html.section("Disagreement of an ensemble", table, lead=lead), facts=facts)

    def _members(self, scene: Scene) -> tuple[list[nn.Module], list[str]]:
        """This model and the others, each known to be another by what it holds."""
        loaded = [load_model(Path(path)) for path in self.models]
        digests = [each.digest for each in loaded]
        if len(set(digests)) != len(digests):
            raise UnfitInput("aspects.disagreement: models", "the same model twice", "each another")
        for each in loaded:
            require_fit(scene.data, each.spec, "aspects.disagreement")
            if _same(each.module, scene.model):
                raise UnfitInput("aspects.disagreement: models", "the measured model itself", "others beside it")
        return [scene.model, *(each.module.to(scene.x.device) for each in loaded)], digests


def disagreement(logits: Sequence[Floats]) -> Floats:
    """The mutual information of answer and model in nats, (N,).

    Args:
        logits: of each of M models, (N, K); a record with one that is not finite gets the greatest score, log M.
    """
    stacked = np.stack(logits)
    finite = np.asarray(np.isfinite(stacked).all(axis=(0, 2)))
    log_p = log_softmax(np.where(finite[None, :, None], stacked, 0.0), axis=2)
    mean = np.exp(log_p).mean(0)
    whole = -np.where(mean > 0, mean * np.log(np.maximum(mean, 1e-300)), 0.0).sum(1)
    each = -(np.exp(log_p) * log_p).sum(2).mean(0)
    top = math.log(len(stacked))
    return np.asarray(np.where(finite, np.clip(whole - each, 0.0, top), top))


def _scores(members: Sequence[nn.Module], x: torch.Tensor) -> Floats:
    if not len(x):
        return np.zeros(0)
    with torch.no_grad():
        said = [torch.cat([model(part) for part in torch.split(x, BLOCK_RECORDS)]) for model in members]
    return disagreement([each.double().cpu().numpy() for each in said])


def _same(first: nn.Module, second: nn.Module) -> bool:
    mine, theirs = first.state_dict(), second.state_dict()
    return mine.keys() == theirs.keys() and all(
        mine[name].shape == theirs[name].shape and bool((mine[name].cpu() == theirs[name].cpu()).all()) for name in mine
    )


def _share(flagged: npt.NDArray[np.bool_], confidence: float) -> Estimate:
    return proportion(int(flagged.sum()), len(flagged), confidence)
