"""What the train step takes from a dataset: inputs, box, preprocessing, weights; each checked."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from assay.data.dataset import Dataset, features, labels, quantities
from assay.errors import UnfitInput
from assay.models.spec import Preprocessing

GREATEST_WEIGHT = 100.0

__all__ = ["bounds_of", "preprocessing_of", "quantity_arrays", "training_arrays", "weights_of"]

Floats = npt.NDArray[np.float32]


def training_arrays(dataset: Dataset) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
    """Inputs (N, ...), labels (N,) and weights (N,) with mean 1.

    Raises:
        UnfitInput: no records, records of one class, features that are not finite, or weights out of range.
    """
    if not len(dataset):
        raise UnfitInput("training records", "none", "at least one of each of two classes")
    x, y = features(dataset), labels(dataset)
    require_finite(dataset, x)
    present = np.unique(y)
    if len(present) < 2:
        raise UnfitInput(
            "training records",
            f"only class {dataset.manifest.content.classes[int(present[0])]!r}",
            "records of at least two classes",
        )
    return x, y, weights_of(dataset)


def quantity_arrays(dataset: Dataset) -> tuple[Floats, npt.NDArray[np.float64], Floats]:
    """Inputs (N, ...), labels (N,) that are quantities, and weights (N,) with mean 1.

    Raises:
        UnfitInput: fewer than two records, labels that are all the same, features that are not finite, or weights out
            of range.
    """
    if len(dataset) < 2:
        raise UnfitInput("training records", f"{len(dataset)}", "at least two")
    x, y = features(dataset), quantities(dataset)
    require_finite(dataset, x)
    if not y.std() > 0:
        raise UnfitInput("training records", f"the label {y[0]:g} alone", "labels that differ")
    return x, y, weights_of(dataset)


def require_finite(dataset: Dataset, x: Floats) -> None:
    """Check that every feature of every record is finite."""
    bad = ~np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if bad.any():
        first = dataset.record_ids[int(np.flatnonzero(bad)[0])]
        raise UnfitInput(
            "features",
            f"{int(bad.sum())} records with NaN or infinity, the first {first}",
            "finite features",
            "Let sanitize quarantine them.",
        )


def weights_of(dataset: Dataset) -> Floats:
    """The weight column scaled to mean 1, or ones; 0 leaves a record out.

    Raises:
        UnfitInput: a weight that is negative, missing, not finite, or above 100 times the mean.
    """
    if "weight" not in dataset.table.column_names:
        return np.ones(len(dataset), dtype=np.float32)
    column = dataset.table["weight"]
    weight = np.asarray(column.to_numpy(), dtype=np.float64)
    total = float(weight.sum())
    if column.null_count or not (np.isfinite(weight).all() and (weight >= 0).all() and 0 < total < math.inf):
        raise UnfitInput("weight", "a value that is missing, negative or not finite, or no weight at all", "0 or more")
    weight = weight * (len(weight) / total)
    if not weight.max() <= GREATEST_WEIGHT:
        raise UnfitInput(
            "weight",
            f"one of {weight.max():.0f} times the mean",
            f"at most {GREATEST_WEIGHT:.0f} times",
            "One record would decide the model.",
        )
    return weight.astype(np.float32)


def bounds_of(x: Floats, given: tuple[float, float] | None) -> tuple[float, float]:
    """The box of valid inputs; see ``TrainConfig.bounds``.

    Raises:
        UnfitInput: records outside the given box, or images outside [0, 1] when none is given.
    """
    least, greatest = float(x.min()), float(x.max())
    low, high = given or (0.0, 1.0)
    if low <= least and greatest <= high:
        return low, high
    if given or x.ndim > 2:
        raise UnfitInput(
            "features",
            f"values in [{least:.6g}, {greatest:.6g}]",
            f"values in [{low:g}, {high:g}]",
            "Set train.bounds.",
        )
    unit = 10.0 ** math.floor(math.log10(greatest - least or max(abs(greatest), 1.0)))
    return _multiple(math.floor(least / unit) - 1, unit), _multiple(math.ceil(greatest / unit) + 1, unit)


def preprocessing_of(x: Floats) -> Preprocessing:
    """Mean and standard deviation of each channel or column; a constant one is only centred."""
    axes = (0, *range(2, x.ndim))
    wide = x.astype(np.float64)
    mean, scale = wide.mean(axis=axes), wide.std(axis=axes)
    scale = np.where(scale > 1e-6 * np.maximum(1, np.abs(mean)), scale, 1.0)
    return Preprocessing(
        mean=tuple(mean.astype(np.float32).tolist()),
        scale=tuple(scale.astype(np.float32).tolist()),
    )


def _multiple(count: int, unit: float) -> float:
    """A multiple of a power of ten, as the short decimal it is."""
    return float(f"{count * unit:.12g}")
