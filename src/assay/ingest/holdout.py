"""Divides trusted records into calibration and hold-out, and keeps hold-out records out of the training data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.data.content import ContentIndex
from assay.data.merkle import row_digests

KEYS = ("batch", "row")

__all__ = ["held_out", "overlapping"]


def held_out(table: pa.Table, share: float, salt: str) -> npt.NDArray[np.bool_]:
    """Which trusted records only evaluate sees, (N,).

    The side follows from SHA-256 of salt, features and label, not from the record's id: a copy of a hold-out record
    can never be on the calibration side.
    """
    digests = row_digests(table.drop_columns(list(KEYS)), salt.encode())
    heads = np.array([int.from_bytes(digest[:8], "big") for digest in digests], dtype=np.uint64)
    return heads < np.uint64(min(int(share * 2**64), 2**64 - 1))


def overlapping(table: pa.Table, holdout: pa.Table) -> npt.NDArray[np.bool_]:
    """Which records have the features of a hold-out record, whatever their label, (N,)."""
    return ContentIndex.of(_features(holdout)).holds(_features(table))


def _features(table: pa.Table) -> pa.Table:
    return table.drop_columns([*KEYS, "label"])
