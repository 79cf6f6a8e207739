"""How a dataset lies in its folder, and what its records add up to, table by table.

    manifest.json                   names the records
    files.json                      SHA-256 of every file
    data/part-00000.parquet ...     the records in canonical order; every part but the last holds whole blocks

Where a part ends follows from the columns alone, so that equal records are equal files. No digest depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay import canonical
from assay.data.manifest import BatchShare, Column, Content
from assay.data.merkle import BLOCK_ROWS, block_digests, merkle_root
from assay.errors import UnfitInput

KEYS = ["batch", "row"]
RESERVED = (*KEYS, "label", "weight")
FILES = "files.json"
FILES_SCHEMA = "assay.files"
MANIFEST = "manifest.json"
DATA = "data"
PART_ROWS = 2**17
PART_BYTES = 2**26
TEXT_BYTES = 16  # what a cell of text counts for

__all__ = [
    "DATA",
    "FILES",
    "FILES_SCHEMA",
    "KEYS",
    "MANIFEST",
    "PART_ROWS",
    "RESERVED",
    "Account",
    "batch_codes",
    "column_of",
    "features_of",
    "part_rows",
    "parts_of",
    "require_files",
    "require_room",
    "typed",
]


class Account:
    """What records add up to, as they pass in canonical order: their leaves, their ids, how many each batch gives.

    Tables may end anywhere; rows of a block that is not full yet wait for the next table.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.counts: dict[str, int] = {}
        self.columns: tuple[Column, ...] = ()
        self._leaves: list[bytes] = []
        self._ids: list[bytes] = []
        self._rest: pa.Table | None = None
        self._last: tuple[bytes, int] | None = None

    def add(self, table: pa.Table) -> None:
        """Take in the records that follow.

        Args:
            table: as `typed` gives it; the same columns every time.

        Raises:
            UnfitInput: a record id twice or out of order, or a label outside the classes, or not finite.
        """
        self.columns = self.columns or tuple(column_of(column) for column in table.schema)
        self._require_order(table)
        self._require_labels(table)
        if self._rest is not None and self._rest.num_rows:
            table = pa.concat_tables([self._rest, table])
        whole = table.num_rows // BLOCK_ROWS * BLOCK_ROWS
        self._take(table.slice(0, whole))
        self._rest = table.slice(whole)

    def close(self) -> tuple[Content, str]:
        """What the records are, and the Merkle root over their ids; no record may follow."""
        if self._rest is not None:
            self._take(self._rest)
            self._rest = None
        root = merkle_root(self._leaves).hex()
        content = Content(self.columns, self.classes, sum(self.counts.values()), root)
        return content, merkle_root(self._ids).hex()

    def shares(self, known: Sequence[BatchShare]) -> tuple[BatchShare, ...]:
        """The batches that gave records, each with their number.

        Raises:
            UnfitInput: a batch that is not among those known.
        """
        by_name = {f"{share.source}/{share.batch}": share for share in known}
        unknown = sorted(set(self.counts) - set(by_name))
        if unknown:
            raise UnfitInput("history.sources", f"no entry for batch {unknown[0]}", "one for every batch of the table")
        return tuple(replace(by_name[name], records=self.counts[name]) for name in sorted(self.counts, key=str.encode))

    def _take(self, table: pa.Table) -> None:
        if table.num_rows:
            self._leaves += block_digests(table)
            self._ids += block_digests(table.select(KEYS))

    def _require_order(self, table: pa.Table) -> None:
        if not table.num_rows:
            return
        if table["batch"].null_count or table["row"].null_count:
            raise UnfitInput("record id", "a missing batch or row", "both of every record")
        names, codes = batch_codes(table)
        row = table["row"].to_numpy()
        order = np.argsort(np.argsort([name.encode() for name in names], kind="stable"), kind="stable")
        rank = order[codes]
        behind = (rank[1:] < rank[:-1]) | ((rank[1:] == rank[:-1]) & (row[1:] <= row[:-1]))
        first, last = (names[codes[0]].encode(), int(row[0])), (names[codes[-1]].encode(), int(row[-1]))
        if self._last is not None and first <= self._last:
            self._refuse(*first, self._last == first)
        if behind.any():
            at = int(np.flatnonzero(behind)[0]) + 1
            same = bool(codes[at] == codes[at - 1] and row[at] == row[at - 1])
            self._refuse(names[codes[at]].encode(), int(row[at]), same)
        self._last = last
        for code, count in enumerate(np.bincount(codes, minlength=len(names)).tolist()):
            if count:
                self.counts[names[code]] = self.counts.get(names[code], 0) + count

    def _refuse(self, batch: bytes, row: int, same: bool) -> None:
        name = f"{batch.decode()}:{row}"
        if same:
            raise UnfitInput("record id", f"{name} twice", "each record once")
        raise UnfitInput("record id", f"{name} out of order", "batches in byte order, and rows by number")

    def _require_labels(self, table: pa.Table) -> None:
        label, count = table["label"], len(self.classes)
        values = label.to_numpy()
        if not count and pa.types.is_floating(label.type):
            if label.null_count or not np.isfinite(values).all():
                raise UnfitInput("label", "a value that is missing or not finite", "finite numbers")
            return
        if label.null_count or (len(values) and not (values.min() >= 0 and values.max() < count)):
            raise UnfitInput("label", "values outside the classes", f"int64 in [0, {count})")


def batch_codes(table: pa.Table) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The names of a table's batches, and per record the position of its own among them, (N,)."""
    batch = table["batch"].combine_chunks().dictionary_encode()
    if isinstance(batch, pa.ChunkedArray):
        batch = batch.unify_dictionaries().combine_chunks()
        batch = batch.chunk(0) if isinstance(batch, pa.ChunkedArray) else batch
    codes = batch.indices.to_numpy(zero_copy_only=False) if len(batch) else np.zeros(0)
    return batch.dictionary.to_pylist(), codes.astype(np.int64)


def typed(table: pa.Table, classes: Sequence[str]) -> pa.Table:
    """A table with its columns in the order and types of a dataset, its records where they were.

    Labels are int64, the numbers of classes; where there are no classes and they are floats, float64.

    Raises:
        UnfitInput: a column is missing.
    """
    missing = [name for name in (*KEYS, "label") if name not in table.column_names]
    if missing:
        raise UnfitInput("table", f"columns {table.column_names}", f"the columns {missing} too")
    order = [*KEYS, *(name for name in table.column_names if name not in RESERVED), "label"]
    order += ["weight"] if "weight" in table.column_names else []
    table = table.select(order).replace_schema_metadata(None)
    batch = pa.chunked_array(table["batch"].cast(pa.string()).chunks, pa.string()).combine_chunks()
    table = table.set_column(0, "batch", (batch if isinstance(batch, pa.Array) else batch.chunk(0)).dictionary_encode())
    table = table.set_column(1, "row", table["row"].cast(pa.int64()))
    kind = pa.float64() if not classes and pa.types.is_floating(table["label"].type) else pa.int64()
    return table.set_column(table.column_names.index("label"), "label", table["label"].cast(kind))


def column_of(column: pa.Field) -> Column:
    """A column as manifests write it."""
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return Column(column.name, str(kind.value_type), tuple(kind.shape))
    return Column(column.name, "batch" if column.name == "batch" else str(kind))


def features_of(table: pa.Table) -> list[str]:
    """The columns that are neither key, label nor weight."""
    return [name for name in table.column_names if name not in RESERVED]


def part_rows(schema: pa.Schema) -> int:
    """How many records a part of these columns holds: whole blocks, bounded in number and in bytes."""
    width = sum(_width(column.type) for column in schema)
    return max(BLOCK_ROWS, min(PART_ROWS, PART_BYTES // width) // BLOCK_ROWS * BLOCK_ROWS)


def _width(kind: pa.DataType) -> int:
    if isinstance(kind, pa.FixedShapeTensorType):
        return int(np.prod(kind.shape, dtype=np.int64)) * _width(kind.value_type)
    try:
        return max(1, int(kind.bit_width) // 8)
    except (ValueError, NotImplementedError):  # text, and what no dataset holds
        return TEXT_BYTES


def parts_of(folder: Path) -> list[Path]:
    """The Parquet files of a dataset, in order."""
    return sorted((folder / DATA).glob("*.parquet"))


def require_files(folder: Path) -> None:
    """Every file that was written is there as it was; what only other encodings would show is found here too.

    No proof against whoever can write both: that is the manifest's digest, in the ledger and in signed evidence.
    """
    if not (folder / FILES).exists():  # written since release 0.2
        return
    document = canonical.require_schema(canonical.read(folder / FILES), FILES_SCHEMA, str(folder / FILES))
    listed = document.get("files")
    names = {MANIFEST, *(f"{DATA}/{part.name}" for part in parts_of(folder))}
    if not isinstance(listed, dict) or not names <= set(listed):
        raise UnfitInput(str(folder / FILES), "another list", "one of the manifest and every Parquet file")
    for name, digest in listed.items():
        if canonical.file_digest(folder / name) != digest:
            raise UnfitInput(
                str(folder / name), "other bytes than were written", f"SHA-256 {digest}", "Fetch or ingest it again."
            )


def require_room(path: Path | str, digest: str) -> None:
    """Refuse a folder that holds something else, so that a step can check all its outputs before writing the first.

    Args:
        path: where a dataset shall be.
        digest: of its manifest.

    Raises:
        UnfitInput: ``path`` is there and is not this dataset.
    """
    target = Path(path)
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    manifest = target / MANIFEST
    if not manifest.is_file() or canonical.file_digest(manifest) != digest:
        raise UnfitInput(str(target), "something else there", "a new name", "Move it away or write elsewhere.")
