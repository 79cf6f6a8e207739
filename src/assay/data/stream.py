"""Datasets larger than memory: read and written part by part, with the digests of the whole."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from assay import canonical
from assay.data import layout
from assay.data.files import whole_folder
from assay.data.layout import DATA, FILES, FILES_SCHEMA, KEYS, MANIFEST, Account, parts_of, typed
from assay.data.manifest import History, Manifest
from assay.data.parquet import tables_of
from assay.errors import UnfitInput

LIST_ROWS = 2**20  # of a row group of a list of records: that of one written at once

__all__ = ["DatasetReader", "DatasetWriter", "RecordList", "writing"]


class DatasetReader:
    """A dataset folder, read part by part.

    Attributes:
        folder: of the dataset.
        manifest: as the folder has it; what is read is checked against it.
    """

    def __init__(self, path: Path | str) -> None:
        self.folder = Path(path)
        where = str(self.folder / MANIFEST)
        self.manifest = Manifest.from_json(canonical.read(self.folder / MANIFEST), where=where)
        self._files_hold = False

    def __len__(self) -> int:
        return self.manifest.content.records

    def tables(self) -> Iterator[pa.Table]:
        """All records in canonical order, in tables of no fixed size; gives at least one, which may be empty.

        Nothing that was read may be relied on before the end is reached: only then every byte was checked.

        Raises:
            UnfitInput: a broken file, or, at the end at the latest, records that differ from the manifest.
        """
        account = Account(self.manifest.content.classes)
        for table in self._raw():
            account.add(table)
            yield table
        self._require(account)
        if not self._files_hold:
            layout.require_files(self.folder)
            self._files_hold = True

    def _raw(self) -> Iterator[pa.Table]:
        """The tables as the files have them; all that a changed byte can raise is one kind of error."""
        parts = parts_of(self.folder)
        if not parts:
            raise UnfitInput(str(self.folder / DATA), "no Parquet file", f"{DATA}/*.parquet")
        for part in parts:
            tables = (typed(table, self.manifest.content.classes) for table in tables_of(part))
            while True:
                try:
                    table = next(tables, None)
                except (pa.ArrowException, OSError, ValueError, LookupError, NotImplementedError) as error:
                    said = f"{type(error).__name__}: {error}"
                    raise UnfitInput(str(self.folder / DATA), said, "Parquet files as they were written") from error
                if table is None:
                    break
                self._require_columns(table)
                yield table

    def _require_columns(self, table: pa.Table) -> None:
        """A part with other columns than the first would never add up; said before anything is made of it."""
        if tuple(layout.column_of(column) for column in table.schema) != self.manifest.content.columns:
            raise self._changed(f"columns {table.column_names}")
        if any(_permuted(column.type) for column in table.schema):
            raise self._changed("a tensor with its axes permuted")

    def _require(self, account: Account) -> None:
        content, ids = account.close()
        said = self.manifest
        known = said.history.record_list in ("", ids)
        if content != said.content or account.shares(said.history.sources) != said.history.sources or not known:
            got = canonical.digest(Manifest(content, said.history).to_json()["content"])
            raise self._changed(f"records with content digest {got[:12]}")

    def _changed(self, got: str) -> UnfitInput:
        return UnfitInput(
            str(self.folder),
            got,
            f"those of the manifest, {self.manifest.content_digest[:12]}",
            "The data changed after the manifest was written; ingest it again.",
        )


class DatasetWriter:
    """Writes a dataset from tables in canonical order; see `writing`.

    Attributes:
        folder: where it is being made.
        target: where it will be.
        account: of what was added.
    """

    def __init__(self, folder: Path, target: Path, classes: Sequence[str], listed: IO[bytes] | None = None) -> None:
        self.folder, self.target, self.account = folder, target, Account(classes)
        self._manifest: Manifest | None = None
        self._waiting: list[pa.Table] = []
        self._rows = self._part = self._number = 0
        self._list = RecordList(listed if listed is not None else io.BytesIO())
        (folder / DATA).mkdir()

    @property
    def manifest(self) -> Manifest:
        """Of the dataset, once it is finished."""
        assert self._manifest is not None, "finish first"
        return self._manifest

    def __len__(self) -> int:
        return sum(self.account.counts.values())

    def add(self, table: pa.Table) -> None:
        """Write the records that follow; a table without records says what the columns are.

        Raises:
            UnfitInput: a record id twice or out of order, a label outside the classes, or other columns than before.
        """
        table = typed(table, self.account.classes)
        if self._waiting and table.schema != self._waiting[0].schema:
            raise UnfitInput("table", f"columns {table.schema.names}", "the same columns and types in every table")
        self.account.add(table)
        self._list.add(table)
        self._part = self._part or layout.part_rows(table.schema)
        self._waiting.append(table)
        self._rows += table.num_rows
        while self._rows > self._part:
            self._write(self._part)

    def finish(self, history: History) -> Manifest:
        """Write what is left, and the manifest; the counts of ``sources`` are those of the records.

        Raises:
            UnfitInput: no table, or a record of a batch that the history does not name.
        """
        if not self._waiting:
            raise UnfitInput(str(self.target), "no table", "one at least, for the columns")
        self._write(self._rows)
        content, ids = self.account.close()
        history = replace(history, sources=self.account.shares(history.sources), record_list=ids)
        self._manifest = Manifest(content, history)
        self._list.close()
        (self.folder / MANIFEST).write_bytes(canonical.dumps(self._manifest.to_json()))
        return self._manifest

    def record_list(self) -> bytes:
        """The Parquet bytes of the list of records, for the ledger."""
        return self._list.bytes()

    def give_up(self) -> None:
        """Let go of what is being written."""
        self._list.give_up()

    def require_room(self) -> None:
        """Refuse a target that holds something else; see `layout.require_room`."""
        layout.require_room(self.target, self.manifest.digest)

    def _write(self, rows: int) -> None:
        """One part of the first of the rows that wait."""
        waiting = pa.concat_tables(self._waiting).unify_dictionaries()
        part = typed(waiting.slice(0, rows), self.account.classes)  # anew, for a dictionary of its batches alone
        part = part.combine_chunks()
        path = self.folder / DATA / f"part-{self._number:05d}.parquet"
        pq.write_table(part, path, compression="zstd")
        self._number += 1
        self._rows -= rows
        self._waiting = [waiting.slice(rows)]


class RecordList:
    """The list of records as the ledger keeps it: Parquet of ``batch`` and ``row``; equal records give equal bytes."""

    def __init__(self, sink: IO[bytes]) -> None:
        """Write to a file that can be read back."""
        self.sink = sink
        schema = pa.schema([("batch", pa.string()), ("row", pa.int64())])
        self._writer = pq.ParquetWriter(sink, schema, compression="zstd")
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._written = False

    def add(self, table: pa.Table) -> None:
        """Note the records of a table."""
        keys = table.select(KEYS)
        self._waiting.append(keys)
        self._rows += keys.num_rows
        while self._rows >= LIST_ROWS:
            self._write(LIST_ROWS)

    def close(self) -> None:
        """Write what is left; a list of none holds one row group all the same, as it always has."""
        if self._rows or not self._written:
            self._write(self._rows)
        self._writer.close()

    def give_up(self) -> None:
        """Close the file as it is; what is wrong with it was said before."""
        with suppress(OSError):
            self._writer.close()

    def bytes(self) -> bytes:
        """The file, once it is closed."""
        self.sink.seek(0)
        return self.sink.read()

    def _write(self, rows: int) -> None:
        waiting = pa.concat_tables(self._waiting).unify_dictionaries()
        keys = waiting.slice(0, rows)
        keys = keys.set_column(0, "batch", keys["batch"].cast(pa.string())).replace_schema_metadata(None)
        keys = keys.combine_chunks()  # pages end where chunks do, and equal records shall give equal bytes
        self._writer.write_table(keys, row_group_size=LIST_ROWS)
        self._written = True
        self._rows -= rows
        self._waiting = [waiting.slice(rows)]


@contextmanager
def writing(path: Path | str, classes: Sequence[str]) -> Iterator[DatasetWriter]:
    """A writer whose folder takes the name ``path`` when the block ends well, and vanishes when it does not.

    Files that shall lie beside the records are written to ``writer.folder`` within the block.

    Raises:
        UnfitInput: ``path`` is there with other content.
    """
    target = Path(path)
    with whole_folder(target) as folder, tempfile.TemporaryFile(dir=target.parent) as listed:
        writer = DatasetWriter(folder, target, classes, listed)
        try:
            yield writer
        except BaseException:
            writer.give_up()
            raise
        document = {"schema": f"{FILES_SCHEMA}/v1", "files": canonical.tree_files(folder)}
        (folder / FILES).write_bytes(canonical.dumps(document))


def _permuted(kind: pa.DataType) -> bool:
    """Whether a tensor's axes are in another order than its values."""
    order = kind.permutation if isinstance(kind, pa.FixedShapeTensorType) else None
    return order is not None and order != sorted(order)
