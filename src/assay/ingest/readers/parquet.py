"""Parquet: types as declared; images as Arrow tensors of fixed shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay.config.ingest import IngestConfig, Limits
from assay.data.parquet import tables_of
from assay.errors import UnfitInput
from assay.ingest.columns import plain_table
from assay.ingest.rows import Delivery, Refusal, Refused, Rows, fetch_row
from assay.ingest.unpack import require_size

__all__ = ["Parquet"]


@dataclass(frozen=True)
class Parquet:
    """Reads ``.parquet``; a row without a label is kept raw."""

    endings: ClassVar[tuple[str, ...]] = (".parquet",)

    def chunks(self, delivery: Delivery, config: IngestConfig) -> Iterator[Rows]:
        """Read a batch by parts of its row groups; see `Reader.chunks`."""
        require_size(delivery.path, config.limits)
        share, first = Refused(), 0
        for part in _tables(delivery.path, config.limits):
            rows = _rows(part, first, config, delivery.name)
            share.note(part.num_rows, rows.refused)
            first += part.num_rows
            yield rows
        share.require_share(delivery.name, config.limits.refused_share)


def _rows(part: pa.Table, first: int, config: IngestConfig, name: str) -> Rows:
    table = plain_table(part, config, name)
    table = table.add_column(0, "row", pa.array(np.arange(first, first + table.num_rows), pa.int64()))
    faults = np.full(table.num_rows, "", dtype=object)
    faults[_late(table, config.latest)] = "future_time"
    if config.task == "regression":
        faults[~np.isfinite(table["label"].to_numpy())] = "label_not_finite"
    faults[table["label"].is_null().to_numpy()] = "missing_label"
    refused = [
        Refusal(first + place, 0, str(faults[place]), fetch_row(table, place))
        for place in np.flatnonzero(faults != "").tolist()
    ]
    return Rows(table.filter(pa.array(faults == "")) if refused else table, tuple(refused))


def _late(table: pa.Table, latest: str) -> npt.NDArray[np.bool_]:
    """Which rows hold an instant after the latest that is allowed, (N,)."""
    late = np.zeros(table.num_rows, np.bool_)
    if latest:
        limit = pa.scalar(datetime.fromisoformat(latest), pa.timestamp("us", "UTC"))
        for name in table.column_names:
            if pa.types.is_timestamp(table[name].type):
                late |= pc.fill_null(pc.greater(table[name], limit), False).to_numpy()
    return late


def _tables(path: Path, limits: Limits) -> Iterator[pa.Table]:
    """The table part by part, at least one, given up as soon as it exceeds a limit."""
    try:
        rows = pq.read_metadata(path).num_rows
        if rows > limits.rows:
            raise UnfitInput(str(path), f"{rows} rows", f"at most {limits.rows}")
        size = 0
        for part in tables_of(path):
            size += part.nbytes
            if size > limits.file_bytes:
                got, fix = f"more than {limits.file_bytes} bytes unpacked", "Raise ingest.limits.file_bytes."
                raise UnfitInput(str(path), got, "less", fix)
            yield part
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnfitInput(str(path), " ".join(str(error).split())[:300], "a Parquet file") from error
