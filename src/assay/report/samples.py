"""A few pictures of records: the worst that were removed, and clean ones of the same class beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.data import records
from assay.data.dataset import Dataset, features, labels
from assay.data.findings import REMOVING, Finding

PICTURES, CLASSES = 10, 3

__all__ = ["Samples", "clean_samples", "removed_samples"]

Grid = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """Pictures by label.

    Fields:
        pictures: per label (n, H, W) or (n, H, W, 3) in [0, 1]; empty for records that are no images.
        names: record ids, per label.
        labels: the labels chosen, those with most records first; named for tables too.
    """

    pictures: dict[int, Grid] = field(default_factory=dict)
    names: dict[int, list[str]] = field(default_factory=dict)
    labels: tuple[int, ...] = ()


def removed_samples(dataset: Dataset, findings: Sequence[Finding]) -> Samples:
    """The most suspicious records of the classes that lost most."""
    y = labels(dataset)
    worst: dict[str, float] = {}
    for finding in findings:
        if finding.action in REMOVING:
            worst[finding.record_id] = max(finding.score, worst.get(finding.record_id, -np.inf))
    score = np.array([worst.get(name, -np.inf) for name in dataset.record_ids])
    chosen = tuple(label for label, _ in sorted(Counter(y.tolist()).items(), key=lambda item: (-item[1], item[0])))
    rows = {}
    for label in chosen[:CLASSES]:
        of = np.flatnonzero(y == label)
        rows[label] = of[np.argsort(-score[of], kind="stable")][:PICTURES]
    return _samples(dataset, rows)


def clean_samples(dataset: Dataset, wanted: Sequence[int]) -> Samples:
    """Records of the wanted classes, evenly spread over each."""
    y = labels(dataset)
    rows = {}
    for label in wanted:
        of = np.flatnonzero(y == label)
        rows[label] = of[np.linspace(0, len(of) - 1, min(PICTURES, len(of))).astype(np.int64)] if len(of) else of
    return _samples(dataset, rows)


def _samples(dataset: Dataset, rows: dict[int, npt.NDArray[np.int64]]) -> Samples:
    parts = {label: dataset.table.take(pa.array(chosen)) for label, chosen in rows.items()}
    names = {label: records.record_ids(part) for label, part in parts.items()}
    images = any(isinstance(dataset.table[name].type, pa.FixedShapeTensorType) for name in dataset.feature_names)
    if not images or len(dataset.feature_names) != 1:
        return Samples({}, names, tuple(rows))
    raw = {label: features(Dataset(part, dataset.manifest)) for label, part in parts.items()}
    pictures = {label: _pictures(array) for label, array in raw.items() if array.ndim == 4}
    return Samples(_in_range(pictures), names, tuple(rows))


def _pictures(x: npt.NDArray[np.float32]) -> Grid:
    """(N, C, H, W) as grey (N, H, W), or colour (N, H, W, 3) from three or four channels."""
    return x[:, 0] if x.shape[1] < 3 else np.ascontiguousarray(x[:, :3].transpose(0, 2, 3, 1))


def _in_range(pictures: dict[int, Grid]) -> dict[int, Grid]:
    """Values outside [0, 1] are brought there, by one scale for all pictures of a part."""
    finite = [array[np.isfinite(array)] for array in pictures.values()]
    every = np.concatenate([*finite, np.zeros(1, np.float32)])
    low, high = min(float(every.min()), 0.0), max(float(every.max()), 1.0)
    return {label: ((array - low) / (high - low)).astype(np.float32) for label, array in pictures.items()}
