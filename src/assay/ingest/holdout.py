"""Divides trusted records into calibration and hold-out, and keeps hold-out records out of the training data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.data.content import ContentIndex
from assay.data.matrix import matrix, numeric_names
from assay.data.merkle import row_digests

KEYS = ("batch", "row")
CHUNK = 8192

__all__ = ["held_out", "near", "overlapping"]


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


def near(table: pa.Table, holdout: pa.Table, reference: pa.Table, distance: float) -> npt.NDArray[np.bool_]:
    """Which records lie as near as ``distance`` to a hold-out record, (N,).

    Args:
        table: the records.
        holdout: the hold-out records.
        reference: all trusted records; say what a standard deviation is.
        distance: root-mean-square over numeric features, in standard deviations; 0 finds none.
    """
    close = np.zeros(table.num_rows, np.bool_)
    if not distance or not table.num_rows or not numeric_names(table):
        return close
    from sklearn.neighbors import NearestNeighbors

    known = matrix(reference)
    scale = known.std(axis=0, where=np.isfinite(known))
    typical = np.sqrt(np.nanmean(scale**2))
    scale = np.where(scale > 0, scale, typical or 1.0) if len(numeric_names(table)) == len(scale) else typical or 1.0
    x, y = (np.clip(np.nan_to_num(matrix(part) / scale), -1e6, 1e6) for part in (holdout, table))
    index = NearestNeighbors(n_neighbors=1).fit(x)
    for first in range(0, len(y), CHUNK):
        nearest = index.kneighbors(y[first : first + CHUNK])[0][:, 0]
        close[first : first + CHUNK] = nearest <= distance * np.sqrt(y.shape[1])
    return close


def _features(table: pa.Table) -> pa.Table:
    return table.drop_columns([*KEYS, "label"])
