"""Divides trusted records into calibration and hold-out, and keeps hold-out records out of the training data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.data.matrix import matrix, numeric_names
from assay.data.merkle import row_digests

KEYS = ("batch", "row")
CHUNK = 8192

__all__ = ["Nearness", "features_of", "held_out"]


def held_out(table: pa.Table, share: float, salt: str) -> npt.NDArray[np.bool_]:
    """Which trusted records only evaluate sees, (N,).

    The side follows from SHA-256 of salt, features and label, not from the record's id: a copy of a hold-out record
    can never be on the calibration side.
    """
    digests = row_digests(table.drop_columns(list(KEYS)), salt.encode())
    heads = np.array([int.from_bytes(digest[:8], "big") for digest in digests], dtype=np.uint64)
    return heads < np.uint64(min(int(share * 2**64), 2**64 - 1))


def features_of(table: pa.Table) -> pa.Table:
    """The features of keyed records: what an overlap is judged by, whatever the label."""
    return table.drop_columns([*KEYS, "label"])


class Nearness:
    """Tells which records lie near a hold-out record."""

    def __init__(self, reference: pa.Table, held: npt.NDArray[np.bool_], distance: float) -> None:
        """Prepare the search.

        Args:
            reference: all trusted records; say what a standard deviation is.
            held: which of them are the hold-out, (N,).
            distance: root-mean-square over numeric features, in standard deviations.
        """
        from sklearn.neighbors import NearestNeighbors

        known = matrix(reference)
        scale = known.std(axis=0, where=np.isfinite(known))
        typical = np.sqrt(np.nanmean(scale**2))
        columns = len(numeric_names(reference))
        self._scale = np.where(scale > 0, scale, typical or 1.0) if columns == len(scale) else typical or 1.0
        self._index = NearestNeighbors(n_neighbors=1).fit(self._scaled(reference.filter(pa.array(held))))
        self._distance = distance

    def of(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Which records are that near, (M,)."""
        close = np.zeros(table.num_rows, np.bool_)
        for first in range(0, table.num_rows, CHUNK):
            y = self._scaled(table.slice(first, CHUNK))
            nearest = self._index.kneighbors(y)[0][:, 0]
            close[first : first + CHUNK] = nearest <= self._distance * np.sqrt(y.shape[1])
        return close

    def _scaled(self, table: pa.Table) -> npt.NDArray[np.float64]:
        scaled: npt.NDArray[np.float64] = np.clip(np.nan_to_num(matrix(table) / self._scale), -1e6, 1e6)
        return scaled
