"""From some suspects to all of their kind: the direction that tells them from the other origins, found again and again.

A detector is made to notice a sub-population, not to bound it: its score mixes the poison with the hardest clean
records. Once a sub-population is found, its first suspects say where it lies. The linear discriminant between them and
the rest, in all that the proxies said of a record, is then a far sharper score, and a new cut along it gives better
suspects. Suspects that are missing or wrong among the first bend the discriminant's length and hardly its direction: a
share of swapped labels changes the difference of the means by a factor, and the covariance within by a multiple of that
difference's square, which leaves the direction as it is.

Every record is scored by a discriminant that was fitted to other folds of records, so that a clean record among the
suspects does not vouch for itself.

Reference: Fisher. The Use of Multiple Measurements in Taxonomic Problems. 1936; the covariance is shrunk after Ledoit
    and Wolf. A Well-Conditioned Estimator for Large-Dimensional Covariance Matrices. 2004.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.covariance import ledoit_wolf

from assay.filters import Floats
from assay.filters._evidence import Bools

FOLDS = 5
LEAST_SUSPECTS = 5

__all__ = ["discriminant", "sharpened"]


def sharpened(view: npt.NDArray[np.floating[Any]], suspects: Bools) -> Floats:
    """Scores (n,) of rows (n, E): how far each lies on the side of the suspects, by discriminants of other rows.

    Units are those of the log-odds of two Gaussians of one covariance, equally likely; NaN never, 0 for all where there
    are fewer than five suspects or as few others.
    """
    joint, scores = view.astype(np.float64), np.zeros(len(view))
    if not LEAST_SUSPECTS <= suspects.sum() <= len(joint) - LEAST_SUSPECTS:
        return scores
    fold = _folds(suspects)
    for leave in range(FOLDS):
        use, judged = fold != leave, fold == leave
        direction, middle = discriminant(joint[use], suspects[use])
        scores[judged] = joint[judged] @ direction - middle
    return scores


def discriminant(joint: Floats, suspects: Bools) -> tuple[Floats, float]:
    """Direction (E,) and the projection of the midpoint of the two means."""
    inside, outside = joint[suspects].mean(axis=0), joint[~suspects].mean(axis=0)
    centred = joint - np.where(suspects[:, None], inside, outside)
    spread = centred.std(axis=0)
    scale = np.where(spread > 1e-12 * (1 + np.abs(inside - outside)), spread, 1.0)
    covariance, _ = ledoit_wolf(centred / scale, assume_centered=True)
    covariance += 1e-9 * (1 + np.trace(covariance) / len(covariance)) * np.eye(len(covariance))
    direction = np.linalg.solve(covariance, (inside - outside) / scale) / scale
    return direction, float(direction @ (inside + outside) / 2)


def _folds(suspects: Bools) -> np.ndarray:
    """A fold for every row, dealt in turn among the suspects and among the others."""
    fold = np.zeros(len(suspects), dtype=np.int64)
    for part in (suspects, ~suspects):
        fold[part] = np.arange(int(part.sum())) % FOLDS
    return fold
