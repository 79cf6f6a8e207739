"""What is always checked, for an expectation would let it through: values, weights, duplicates, leaks.

Great Expectations counts a missing or NaN value as no failure, and no rows at all as success; here a value that is
missing or not finite takes its record out, whatever the suite says.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.config.sanitize import SanitizeConfig
from assay.data import records
from assay.data.content import ContentIndex, repeated
from assay.data.dataset import KEYS, Dataset
from assay.data.findings import Action, Finding

Mask = npt.NDArray[np.bool_]
FORMULA = r"^[=+\-@\t\r]"
UNCOMPARED = (*KEYS, "weight")

__all__ = ["always", "constant_columns"]


def always(dataset: Dataset, config: SanitizeConfig, calibration: Dataset | None) -> list[Finding]:
    """Findings of the checks that no suite can leave out.

    Args:
        dataset: to check.
        config: says what becomes of duplicates.
        calibration: trusted records; a record that equals one of them is flagged as a leak.
    """
    table = dataset.table
    findings = list(_of(table, missing(dataset), "missing_value", "quarantine"))
    findings += _of(table, not_finite(dataset), "not_finite", "quarantine")
    if "weight" in table.column_names:
        findings += _of(table, unfit_weight(table["weight"]), "unfit_weight", "quarantine")
    findings += _of(table, formula(dataset), "formula_cell", "flag")
    contents = _contents(table)
    if config.duplicates != "keep":  # records stand in canonical order, so the first by id stays
        findings += _of(table, repeated(contents), "duplicate_record", config.duplicates)
    if calibration is not None:
        leaked = ContentIndex.of(_contents(calibration.table)).holds(contents)
        findings += _of(table, leaked, "calibration_record", "flag")
    return findings


def missing(dataset: Dataset) -> Mask:
    """Which records lack a feature, (N,)."""
    lacking = np.zeros(len(dataset), np.bool_)
    for name in dataset.feature_names:
        column = dataset.table[name]
        if column.null_count:
            lacking |= column.is_null().to_numpy()
    return lacking


def not_finite(dataset: Dataset) -> Mask:
    """Which records hold NaN or an infinity in a feature, a pixel included, (N,)."""
    bad = np.zeros(len(dataset), np.bool_)
    for name in dataset.feature_names:
        column = dataset.table[name]
        if isinstance(column.type, pa.FixedShapeTensorType):
            parts = [chunk.to_numpy_ndarray().reshape(len(chunk), -1) for chunk in column.chunks]
            bad |= np.concatenate([~np.isfinite(part).all(axis=1) for part in parts] or [bad])
        elif pa.types.is_floating(column.type):
            bad |= ~pc.fill_null(pc.is_finite(column), True).to_numpy()
    return bad


def formula(dataset: Dataset) -> Mask:
    """Which records hold a text that a spreadsheet would run as a formula, (N,); it is stored as it came."""
    found = np.zeros(len(dataset), np.bool_)
    for name in dataset.feature_names:
        column = dataset.table[name]
        if pa.types.is_string(column.type):
            found |= pc.fill_null(pc.match_substring_regex(column, FORMULA), False).to_numpy()
    return found


def unfit_weight(weight: pa.ChunkedArray) -> Mask:
    """Which weights are missing, negative or not finite, (N,)."""
    values = np.asarray(weight.cast(pa.float64()).to_numpy(), dtype=np.float64)
    return ~(np.isfinite(values) & (values >= 0))


def constant_columns(dataset: Dataset) -> list[str]:
    """Features that hold one value only: nothing can be learnt from them, and a broken export looks like this."""
    names = [
        name for name in dataset.feature_names if not isinstance(dataset.table[name].type, pa.FixedShapeTensorType)
    ]
    return [name for name in names if len(dataset) > 1 and len(pc.unique(dataset.table[name])) == 1]


def _contents(table: pa.Table) -> pa.Table:
    """Every record's features and label."""
    return table.drop_columns([name for name in UNCOMPARED if name in table.column_names])


def _of(table: pa.Table, mask: Mask, reason: str, action: Action) -> Iterator[Finding]:
    for name in records.record_ids(table.filter(pa.array(mask))):
        yield Finding(name, "sanitize", 1.0, reason, action)
