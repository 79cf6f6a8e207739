"""What is compared: the features of two datasets, images through their mean, deviation, least and greatest value.

A value that is missing or not finite never enters a statistic. Where the reference has such values too, how often they
occur is a feature of its own (``<name>.missing``); where it has none, the feature cannot be judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.data.dataset import KEYS, Dataset
from assay.errors import UnfitInput

Kind = Literal["number", "category"]
Values = npt.NDArray[Any]
FEW_VALUES = 20
LABEL = "label"

__all__ = ["LABEL", "Kind", "Measured", "Pair", "Values", "pairs"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one statistic says of one feature.

    Fields:
        value: the statistic.
        p_value: chance of a value at least as large when nothing has changed; finite, in (0, 1].
        null_quantile: the value that chance reaches at the level asked for, or None where the member knows none.
    """

    value: float
    p_value: float
    null_quantile: float | None = None


@dataclass(frozen=True)
class Pair:
    """One feature in both datasets.

    Fields:
        name: of the column; ``<column>.mean`` and so on for images, ``<column>.missing`` for how often it is missing.
        kind: ``number`` or ``category``.
        reference, current: the values, missing ones left out: float64, or text for categories.
        trouble: why the feature cannot be judged, or empty.
    """

    name: str
    kind: Kind
    reference: Values
    current: Values
    trouble: str = ""


def pairs(reference: Dataset, current: Dataset) -> Iterator[Pair]:
    """Every feature of both datasets, and the label, in column order.

    Raises:
        UnfitInput: other columns or classes in one than in the other, or a column that has no order and no categories.
    """
    first, second = reference.manifest.content, current.manifest.content
    if (first.columns, first.classes) != (second.columns, second.classes):
        raise UnfitInput(
            "current", _difference(first.columns, second.columns), "the columns and classes of the reference"
        )
    for name in (*reference.feature_names, LABEL):
        before, now = reference.table[name], current.table[name]
        if isinstance(before.type, pa.FixedShapeTensorType):
            yield from _images(name, before, now)
        elif name == LABEL and first.classes:
            classes = np.array(first.classes)
            yield Pair(name, "category", classes[before.to_numpy()], classes[now.to_numpy()])
        else:
            yield from _column(name, before, now)


def _column(name: str, before: pa.ChunkedArray, now: pa.ChunkedArray) -> Iterator[Pair]:
    kind = _kind(before)
    was, old = _present(before, kind)
    present, new = _present(now, kind)
    if was.all() and not present.all():
        yield Pair(name, kind, old, new, f"{(~present).sum()} values missing or not finite, none in the reference")
        return
    yield Pair(name, kind, old, new)
    if not was.all():
        yield Pair(
            f"{name}.missing", "category", np.where(was, "present", "missing"), np.where(present, "present", "missing")
        )


def _kind(column: pa.ChunkedArray) -> Kind:
    """Numbers are numbers; but for booleans, and integers of few values in the reference."""
    kind = column.type
    if pa.types.is_integer(kind):
        return "category" if pc.count_distinct(column).as_py() <= FEW_VALUES else "number"
    return (
        "number"
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_temporal(kind)
        else "category"
    )


def _present(column: pa.ChunkedArray, kind: Kind) -> tuple[npt.NDArray[np.bool_], Values]:
    """Which values are there, and those values."""
    if kind == "category":
        there = np.asarray(column.is_valid())
        return there, np.asarray(column.drop_null().cast(pa.string()).to_pylist(), dtype=np.str_)
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int64())
    values = np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    there = np.isfinite(values)
    return there, values[there]


def _images(name: str, before: pa.ChunkedArray, now: pa.ChunkedArray) -> Iterator[Pair]:
    old, new = _scalars(before), _scalars(now)
    for scalar, values in old.items():
        was, present = np.isfinite(values), np.isfinite(new[scalar])
        trouble = (
            ""
            if present.all() and was.all()
            else f"{(~present).sum() + (~was).sum()} images with values that are not finite"
        )
        yield Pair(f"{name}.{scalar}", "number", values[was], new[scalar][present], trouble)


def _scalars(column: pa.ChunkedArray) -> dict[str, npt.NDArray[np.float64]]:
    """Mean, standard deviation, least and greatest value of every image, (N,) each."""
    parts = [chunk.to_numpy_ndarray().reshape(len(chunk), -1) for chunk in column.chunks if len(chunk)]
    flat = np.concatenate(parts) if parts else np.empty((0, 1))
    with np.errstate(invalid="ignore", over="ignore"):
        scalars = {"mean": flat.mean(1, dtype=np.float64), "std": flat.std(1, dtype=np.float64)}
    return scalars | {"min": flat.min(1).astype(np.float64), "max": flat.max(1).astype(np.float64)}


def _difference(before: tuple[Any, ...], now: tuple[Any, ...]) -> str:
    odd = sorted({column.name for column in set(before) ^ set(now)} - set(KEYS))
    return f"columns that differ: {', '.join(odd)}" if odd else "other classes or another order of columns"
