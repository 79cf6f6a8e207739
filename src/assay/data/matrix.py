"""Records as numbers, for whatever measures distances: numeric columns side by side, images flattened."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.data.layout import RESERVED

Floats = npt.NDArray[np.float64]

__all__ = ["Floats", "matrix", "numeric_names"]


def numeric_names(table: pa.Table) -> list[str]:
    """The feature columns that are numbers, booleans or images; texts and times are none."""
    return [name for name in table.column_names if name not in RESERVED and _numeric(table[name].type)]


def matrix(table: pa.Table) -> Floats:
    """The numeric features, (N, D) float64; D may be 0.

    uint8 images are divided by 255. Missing values become NaN.
    """
    parts = [_columns(table[name]) for name in numeric_names(table)]
    return np.concatenate(parts, axis=1) if parts else np.empty((table.num_rows, 0))


def _columns(column: pa.ChunkedArray) -> Floats:
    if isinstance(column.type, pa.FixedShapeTensorType):
        chunks = [chunk.to_numpy_ndarray().reshape(len(chunk), -1) for chunk in column.chunks if len(chunk)]
        size = int(np.prod(column.type.shape))
        flat = np.concatenate(chunks).astype(np.float64) if chunks else np.empty((0, size))
        return flat / 255 if column.type.value_type == pa.uint8() else flat
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64).reshape(-1, 1)


def _numeric(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.FixedShapeTensorType):
        return True
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))
