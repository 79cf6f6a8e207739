"""Parquet files of any size, table by table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from assay.data.layout import part_rows
from assay.data.merkle import BLOCK_ROWS

READ_BYTES = 2**20
TENSOR_PARTS = 8

__all__ = ["table_in", "tables_of"]


def tables_of(path: Path) -> Iterator[pa.Table]:
    """The rows of a file in order, in tables that are no larger than a part of a dataset; at least one.

    Pages are read as they are asked for, however large a row group is. By its own choice pyarrow reads columns ahead
    and keeps what it has read until the file is closed: in the end the whole file. Of images an eighth of a part is
    read at a time, for a byte of them takes eight until it is in an array.

    Raises:
        pyarrow.ArrowException, OSError, ValueError: no Parquet file, or a broken one.
    """
    with pq.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=READ_BYTES) as file:
        if not file.metadata.num_rows:
            yield file.read()
        rows, schema = part_rows(file.schema_arrow), file.schema_arrow
        if any(isinstance(kind, pa.FixedShapeTensorType) for kind in schema.types):
            rows = max(BLOCK_ROWS, rows // TENSOR_PARTS // BLOCK_ROWS * BLOCK_ROWS)
        for batch in file.iter_batches(batch_size=rows):
            yield pa.Table.from_batches([batch], schema=schema)


def table_in(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of a Parquet file in memory, on this thread alone.

    ``pyarrow.parquet.read_table`` scans on threads of its own, which let go of what they scanned some time later: of
    bytes that Python owns as the interpreter ends, too, and then the process aborts with its work done.

    Raises:
        pyarrow.ArrowException, OSError, ValueError: no Parquet file, or a broken one.
    """
    with pq.ParquetFile(pa.BufferReader(data), pre_buffer=False) as file:
        return file.read(columns=list(columns) if columns is not None else None, use_threads=False)
