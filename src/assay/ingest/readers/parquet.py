"""Parquet: types as declared; images as Arrow tensors of fixed shape."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay.config.ingest import IngestConfig, Limits
from assay.errors import UnfitInput
from assay.ingest.columns import plain_table
from assay.ingest.rows import Delivery, Refusal, Rows, fetch_row, require_share
from assay.ingest.unpack import require_size

__all__ = ["Parquet"]


@dataclass(frozen=True)
class Parquet:
    """Reads ``.parquet``; a row without a label is kept raw."""

    endings: ClassVar[tuple[str, ...]] = (".parquet",)

    def read(self, delivery: Delivery, config: IngestConfig) -> Rows:
        """Read a batch whole; see `Reader.read`."""
        require_size(delivery.path, config.limits)
        table = plain_table(_table(delivery.path, config.limits), config, delivery.name)
        table = table.add_column(0, "row", pa.array(np.arange(table.num_rows), pa.int64()))
        unlabelled = np.flatnonzero(table["label"].is_null().to_numpy())
        refused = [Refusal(int(row), 0, "missing_label", fetch_row(table, int(row))) for row in unlabelled]
        refused += _future(table, config.latest, set(unlabelled.tolist()))
        require_share(delivery.name, table.num_rows, refused, config.limits.refused_share)
        kept = np.ones(table.num_rows, np.bool_)
        kept[[refusal.row for refusal in refused]] = False
        return Rows(table.filter(pa.array(kept)), tuple(sorted(refused, key=lambda refusal: refusal.row)))


def _future(table: pa.Table, latest: str, known: set[int]) -> list[Refusal]:
    """Rows with an instant after the latest that is allowed."""
    if not latest:
        return []
    late = np.zeros(table.num_rows, np.bool_)
    for name in table.column_names:
        if pa.types.is_timestamp(table[name].type):
            limit = pa.scalar(datetime.fromisoformat(latest), pa.timestamp("us", "UTC"))
            late |= pc.fill_null(pc.greater(table[name], limit), False).to_numpy()
    rows = (int(row) for row in np.flatnonzero(late))
    return [Refusal(row, 0, "future_time", fetch_row(table, row)) for row in rows if row not in known]


def _table(path: Path, limits: Limits) -> pa.Table:
    """The whole table, given up as soon as it exceeds a limit."""
    try:
        with pq.ParquetFile(path, memory_map=False) as file:
            if file.metadata.num_rows > limits.rows:
                raise UnfitInput(str(path), f"{file.metadata.num_rows} rows", f"at most {limits.rows}")
            parts, size = [], 0
            for part in file.iter_batches():
                size += part.nbytes
                if size > limits.file_bytes:
                    raise UnfitInput(
                        str(path),
                        f"more than {limits.file_bytes} bytes unpacked",
                        "less",
                        "Raise ingest.limits.file_bytes.",
                    )
                parts.append(part)
            return pa.Table.from_batches(parts, schema=file.schema_arrow)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnfitInput(str(path), " ".join(str(error).split())[:300], "a Parquet file") from error
