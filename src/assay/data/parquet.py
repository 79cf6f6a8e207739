"""Parquet files of any size, table by table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from assay.data.layout import part_rows

READ_BYTES = 2**20
GROUP_BYTES = 2**26

__all__ = ["tables_of"]


def tables_of(path: Path) -> Iterator[pa.Table]:
    """The rows of a file in order, in tables that are no larger than a part of a dataset; at least one.

    Row groups are read as they are asked for. A large one is read a piece at a time, and through a reader of its own,
    for such a reader keeps what it has read until it is closed.

    Raises:
        pyarrow.ArrowException, OSError, ValueError: no Parquet file, or a broken one.
    """
    with pq.ParquetFile(path, memory_map=False) as file:
        schema, groups = file.schema_arrow, file.num_row_groups
        large = any(file.metadata.row_group(at).total_byte_size > GROUP_BYTES for at in range(groups))
        if not file.metadata.num_rows:
            yield file.read()
            return
        if not large:
            yield from _tables(file, schema, range(groups))
            return
    for at in range(groups):
        with pq.ParquetFile(path, memory_map=False, buffer_size=READ_BYTES) as file:
            yield from _tables(file, schema, [at])


def _tables(file: pq.ParquetFile, schema: pa.Schema, groups: range | list[int]) -> Iterator[pa.Table]:
    for batch in file.iter_batches(batch_size=part_rows(schema), row_groups=list(groups)):
        yield pa.Table.from_batches([batch], schema=schema)
