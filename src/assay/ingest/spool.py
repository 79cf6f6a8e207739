"""Rows of a batch between reading and dividing: on disk, for a batch may be larger than memory.

What the whole step has to know of all batches before it can divide any of them is gathered as the rows pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.data.layout import part_rows
from assay.errors import UnfitInput
from assay.ingest.rows import Rows, raw_bytes

COMPRESSION = "lz4"

__all__ = ["Spool"]


class Spool:
    """The rows of one batch, read to the end.

    Attributes:
        name: ``<source>/<batch>``.
        schema: of every table: ``row``, features, ``label``.
        rows: how many fit; refused: how many do not.
        labels: the distinct ones, as text, in the order they came in; none where they are quantities.
        raw: file of JSON lines of the refused rows; see `rows.raw_bytes`.
    """

    def __init__(self, name: str, folder: Path, chunks: Iterable[Rows]) -> None:
        """Write a batch to files in an empty folder.

        Raises:
            UnfitInput: what the reader raises, no record, or a feature column without any finite value.
        """
        self.name, self.raw = name, folder / "raw.jsonl"
        self.schema: pa.Schema | None = None
        self.rows = self.refused = 0
        self.labels: dict[str, None] = {}
        self._usable: dict[str, bool] = {}
        self._file, self._refusals = folder / "rows.arrow", folder / "refused.arrow"
        refusals = pa.schema([("row", pa.int64()), ("reason", pa.string())])
        folder.mkdir(parents=True)
        writer: Any = None
        with self.raw.open("wb") as raw, pa.ipc.new_stream(str(self._refusals), refusals) as refused:
            try:
                for rows in chunks:
                    writer = writer or self._writer(rows.table.schema)
                    self._note(rows)
                    writer.write_table(rows.table, max_chunksize=part_rows(rows.table.schema))
                    raw.write(raw_bytes(name, rows.refused))
                    listed = {"row": [it.row for it in rows.refused], "reason": [it.reason for it in rows.refused]}
                    refused.write_table(pa.table(listed, schema=refusals))
            finally:
                if writer is not None:
                    writer.close()
        self._require()

    @property
    def features(self) -> dict[str, pa.DataType]:
        """Name and type of every feature, in order."""
        assert self.schema is not None
        return {field.name: field.type for field in self.schema if field.name not in ("row", "label")}

    def tables(self) -> Iterator[pa.Table]:
        """The rows that fit, in order."""
        with pa.OSFile(str(self._file)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                yield pa.Table.from_batches([batch])

    def reasons(self) -> Iterator[tuple[str, list[int]]]:
        """Reasons, and the rows that were refused for each, piece by piece."""
        with pa.OSFile(str(self._refusals)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                rows, reason = batch["row"].to_numpy(), np.array(batch["reason"].to_pylist(), dtype=object)
                for said in sorted(set(reason.tolist())):
                    yield said, rows[reason == said].tolist()

    def _writer(self, schema: pa.Schema) -> Any:
        self.schema = schema
        self._usable = dict.fromkeys(schema.names[1:-1], False)
        return pa.ipc.new_stream(str(self._file), schema, options=pa.ipc.IpcWriteOptions(compression=COMPRESSION))

    def _note(self, rows: Rows) -> None:
        self.rows += rows.table.num_rows
        self.refused += len(rows.refused)
        if "label" in rows.table.column_names and not pa.types.is_floating(rows.table.schema.field("label").type):
            self.labels |= dict.fromkeys(map(str, pc.unique(rows.table["label"]).to_pylist()))
        for name, known in self._usable.items():
            self._usable[name] = known or _usable(rows.table[name])

    def _require(self) -> None:
        if not self.rows:
            raise UnfitInput(f"batch {self.name}", "no record", "at least one")
        bare = next((name for name, usable in self._usable.items() if not usable), None)
        if bare is not None:
            where = f"batch {self.name}: column {bare!r}"
            raise UnfitInput(where, "no finite value in any row", "values, or no column")


def _usable(cells: pa.ChunkedArray) -> bool:
    """Whether a column holds any finite value."""
    if pa.types.is_floating(cells.type):
        return bool(pc.any(pc.is_finite(cells)).as_py())
    return bool(len(cells) > cells.null_count)
