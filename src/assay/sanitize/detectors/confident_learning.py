"""How surely a model that never saw the record gives it another label."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from assay.errors import UnfitInput
from assay.sanitize.detectors import Floats, Labels, Scorer
from assay.sanitize.detectors.scaling import Scaling

FOLDS = 5
LIMIT = 1e3  # of a scaled feature, so that one wild value does not decide a linear model

__all__ = ["ConfidentLearning"]


@dataclass(frozen=True, kw_only=True)
class ConfidentLearning:
    """``max_k (p_k - t_k) - (p_y - t_y)`` of the classes k other than y: confident learning's margin.

    ``p`` are the probabilities of a logistic regression, ``t_k`` the mean probability of class k among the records of
    class k that it is fitted to, each judged by folds that leave it out: a class the model is rarely sure of asks for
    less to be confident in.

    Fields:
        strength: inverse of the penalty on the weights.

    Reference: Northcutt, Jiang, Chuang. Confident Learning: Estimating Uncertainty in Dataset Labels. JAIR 2021.
    """

    reason: ClassVar[str] = "label_unlike_model"
    fits: ClassVar[Literal["trusted", "records"]] = "trusted"

    strength: float = 1.0

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise UnfitInput("confident_learning.strength", str(self.strength), "above 0")

    def fit(self, x: Floats, y: Labels, *, seed: int) -> Scorer:
        """See `Detector.fit`."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict

        classes, counts = np.unique(y, return_counts=True)
        if len(classes) < 2 or counts.min() < 2:
            raise UnfitInput("confident_learning", f"classes of {counts.tolist()} records to fit", "2 of 2 each")
        scaling = Scaling.of(x)
        z = np.clip(scaling(x), -LIMIT, LIMIT)
        model = LogisticRegression(C=self.strength, max_iter=300)
        folds = StratifiedKFold(int(min(FOLDS, counts.min())), shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model that has not converged still ranks; the cut is calibrated
            left_out = cross_val_predict(model, z, y, cv=folds, method="predict_proba")
            model.fit(z, y)
        confident = np.array([left_out[y == label, k].mean() for k, label in enumerate(classes)])

        def score(x: Floats, y: Labels, *, same: bool = False) -> Floats:
            margin = model.predict_proba(np.clip(scaling(x), -LIMIT, LIMIT)) - confident
            own = classes[None, :] == y[:, None]
            given = np.where(own, margin, 0).sum(axis=1) - ~own.any(axis=1)  # a class nobody knows has none
            return np.asarray(np.where(own, -np.inf, margin).max(axis=1) - given)

        return score
