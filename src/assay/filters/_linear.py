"""What the members share: checked input, records by class, principal directions from a Gram matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy import linalg

from assay.errors import UnfitInput
from assay.filters import Floats, Labels

__all__ = ["by_class", "checked", "each_class", "leading", "principal", "scatter"]


def checked(features: npt.ArrayLike, labels: npt.ArrayLike, where: str = "features") -> tuple[Floats, Labels]:
    """Features (N, D) as float64 and labels (N,) as int64.

    Raises:
        UnfitInput: another shape, no record, or a value that is not finite.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if x.ndim != 2 or y.shape != x.shape[:1] or not x.size:
        raise UnfitInput(where, f"features {x.shape}, labels {y.shape}", "features (N, D) and labels (N,), N, D > 0")
    if not np.issubdtype(y.dtype, np.integer):
        raise UnfitInput(f"{where}: labels", str(y.dtype), "integers")
    if not np.isfinite(x.sum()) and not np.isfinite(x).all():
        rows = np.flatnonzero(~np.isfinite(x).all(axis=1))
        raise UnfitInput(where, f"{len(rows)} rows with NaN or infinity, first row {rows[0]}", "finite numbers")
    return x, y.astype(np.int64)


def by_class(labels: Labels) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Every label that occurs, with the positions of its records."""
    for label in np.unique(labels):
        yield int(label), np.flatnonzero(labels == label)


def scatter(rows: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean (D,), centred rows (n, D), and their Gram matrix (D, D), the sum of (x - mean)(x - mean)'."""
    mean = rows.mean(axis=0)
    centred = rows - mean
    return mean, centred, centred.T @ centred


def principal(gram: Floats, count: int) -> Floats:
    """The ``count`` leading eigenvectors (D, count) of a symmetric matrix (D, D), leading first.

    Fewer where the matrix has fewer positive eigenvalues; at least one.
    """
    size = len(gram)
    values, vectors = linalg.eigh(gram, subset_by_index=[max(0, size - count), size - 1])
    positive = int((values > max(values[-1], 0.0) * size * np.finfo(np.float64).eps).sum())
    first: Floats = vectors[:, ::-1][:, : max(1, positive)]
    return first


def leading(points: Floats, directions: int) -> Floats:
    """Coordinates (n, k) of centred points (n, D) along their own leading principal directions."""
    _, centred, gram = scatter(points)
    return np.asarray(centred @ principal(gram, directions))


def each_class(features: Floats, labels: Labels, score: Callable[[Floats], Floats]) -> Floats:
    """Scores (N,) of features (N, D), every class scored by itself."""
    x, y = checked(features, labels)
    scores = np.zeros(len(x))
    for _, rows in by_class(y):
        scores[rows] = score(x[rows])
    return scores
