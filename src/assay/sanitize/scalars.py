"""The frame that expectations see: scalars and record ids, never an image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from assay.data.dataset import Dataset
from assay.data.layout import features_of
from assay.data.records import record_ids

RECORD_ID = "record_id"
STATISTICS = ("min", "max", "mean", "std")

__all__ = ["RECORD_ID", "STATISTICS", "frame", "table_frame"]


def frame(dataset: Dataset, rows: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """The frame of the chosen records of a dataset in memory; see `table_frame`."""
    return table_frame(dataset.table.filter(pa.array(rows)))


def table_frame(table: pa.Table) -> pd.DataFrame:
    """Scalar features, statistics of image features, ``label`` and ``record_id`` of records."""
    columns: dict[str, object] = {}
    for name in features_of(table):
        column = table[name]
        if isinstance(column.type, pa.FixedShapeTensorType):
            columns |= {f"{name}.{statistic}": values for statistic, values in _statistics(column).items()}
        else:
            columns[name] = column.to_pandas()
    columns["label"] = table["label"].to_numpy()
    ids = pd.Series(np.array(record_ids(table), dtype=object))
    return pd.DataFrame({RECORD_ID: ids, **columns})


def _statistics(column: pa.ChunkedArray) -> dict[str, npt.NDArray[np.float64]]:
    """Per image: least, greatest and mean value and the standard deviation over its pixels, each (N,)."""
    parts = [chunk.to_numpy_ndarray().reshape(len(chunk), -1) for chunk in column.chunks]
    found = {}
    for statistic in STATISTICS:
        given = [getattr(np, statistic)(part, axis=1).astype(np.float64) for part in parts]
        found[statistic] = np.concatenate(given) if given else np.empty(0)
    return found
