"""A dataset: a folder of ``manifest.json`` and ``data/*.parquet``, records in canonical order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from assay import canonical
from assay.data import records
from assay.data.files import whole_folder
from assay.data.manifest import BatchShare, Column, Content, History, Manifest
from assay.data.merkle import block_digests, merkle_root
from assay.errors import UnfitInput

__all__ = ["Dataset", "column_of", "concat", "features", "labels", "record_list_root"]

KEYS = ["batch", "row"]
FILES = "files.json"
FILES_SCHEMA = "assay.files/v1"
RESERVED = (*KEYS, "label", "weight")


@dataclass(frozen=True)
class Dataset:
    """Records and the manifest that names them.

    Fields:
        table: columns ``batch`` (dictionary of text, ``<source>/<batch>``), ``row`` (int64), features, ``label``
            (int64 in [0, classes)), and maybe ``weight``; in canonical order.
        manifest: agrees with the table.
    """

    table: pa.Table
    manifest: Manifest

    @classmethod
    def make(cls, table: pa.Table, classes: Sequence[str], history: History) -> Dataset:
        """Bring a table into canonical order and write its manifest.

        Args:
            table: the columns named above, in any row order; record ids unique.
            classes: names of the classes.
            history: where the records came from; the counts of ``sources`` are recomputed from the table.

        Raises:
            UnfitInput: a missing column, a record id twice, or a label outside the classes.
        """
        table = _canonical(table)
        leaves = block_digests(table)
        content = Content(
            columns=tuple(column_of(column) for column in table.schema),
            classes=tuple(classes),
            records=table.num_rows,
            merkle_root=merkle_root(leaves).hex(),
        )
        history = replace(history, sources=_shares(table, history.sources), record_list=record_list_root(table))
        dataset = cls(table, Manifest(content, history))
        dataset._require_labels()
        return dataset

    @classmethod
    def load(cls, path: Path | str) -> Dataset:
        """Read a dataset folder and check every byte against its manifest.

        Raises:
            UnfitInput: no such folder, a broken file, or records that differ from the manifest.
        """
        folder = Path(path)
        manifest = Manifest.from_json(canonical.read(folder / "manifest.json"), where=str(folder / "manifest.json"))
        try:
            parts = sorted((folder / "data").glob("*.parquet"))
            table = pa.concat_tables([pq.read_table(part) for part in parts]) if parts else None
            got = cls.make(table, manifest.content.classes, manifest.history) if table is not None else None
        except (pa.ArrowException, OSError, ValueError, LookupError) as error:  # all that a changed byte can raise
            raise UnfitInput(
                str(folder / "data"), f"{type(error).__name__}: {error}", "Parquet files as they were written"
            ) from error
        if got is None:
            raise UnfitInput(str(folder / "data"), "no Parquet file", "data/*.parquet")
        mine, said = got.manifest.history, manifest.history
        known = said.record_list in ("", mine.record_list)
        if got.manifest.content != manifest.content or mine.sources != said.sources or not known:
            raise UnfitInput(
                str(folder),
                f"records with content digest {got.manifest.content_digest[:12]}",
                f"those of the manifest, {manifest.content_digest[:12]}",
                "The data changed after the manifest was written; ingest it again.",
            )
        _require_files(folder)
        return cls(got.table, manifest)

    def save(
        self, path: Path | str, extra: dict[str, bytes] | None = None, fill: Callable[[Path], object] | None = None
    ) -> None:
        """Write the folder whole or not at all; ``extra`` files and what ``fill`` adds go beside the manifest."""
        with whole_folder(path) as folder:
            (folder / "data").mkdir()
            pq.write_table(self.table, folder / "data" / "part-00000.parquet", compression="zstd")
            (folder / "manifest.json").write_bytes(canonical.dumps(self.manifest.to_json()))
            for name, data in (extra or {}).items():
                (folder / name).write_bytes(data)
            if fill is not None:
                fill(folder)
            (folder / FILES).write_bytes(
                canonical.dumps({"schema": FILES_SCHEMA, "files": canonical.tree_files(folder)})
            )

    def require_room(self, path: Path | str) -> None:
        """Refuse a folder that holds something else, so that a step can check all its outputs before writing the first.

        Raises:
            UnfitInput: ``path`` is there and is not this dataset.
        """
        target = Path(path)
        if not target.exists() or (target.is_dir() and not any(target.iterdir())):
            return
        manifest = target / "manifest.json"
        if not manifest.is_file() or canonical.file_digest(manifest) != self.manifest.digest:
            raise UnfitInput(str(target), "something else there", "a new name", "Move it away or write elsewhere.")

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def record_ids(self) -> list[str]:
        """Every record id, in order."""
        return records.record_ids(self.table)

    @property
    def feature_names(self) -> list[str]:
        """The columns that are neither key, label nor weight."""
        return [name for name in self.table.column_names if name not in RESERVED]

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_], history: History) -> Dataset:
        """The records at the given positions, or where the mask is true, under a new history."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Dataset.make(self.table.take(pa.array(positions)), self.manifest.content.classes, history)

    def _require_labels(self) -> None:
        label, count = self.table["label"], len(self.manifest.content.classes)
        values = label.to_numpy()
        if label.null_count or (len(values) and not (values.min() >= 0 and values.max() < count)):
            raise UnfitInput("label", "values outside the classes", f"int64 in [0, {count})")


def record_list_root(table: pa.Table) -> str:
    """The Merkle root over the columns ``batch`` and ``row`` of a table in canonical order, hexadecimal."""
    return merkle_root(block_digests(table.select(KEYS))).hex()


def concat(datasets: Sequence[Dataset], history: History) -> Dataset:
    """All records of several datasets of one schema; a record id twice is an error."""
    first = datasets[0].manifest.content
    for other in datasets[1:]:
        content = other.manifest.content
        if (content.columns, content.classes) != (first.columns, first.classes):
            raise UnfitInput("datasets to join", "different columns or classes", "one schema")
    table = pa.concat_tables([dataset.table.unify_dictionaries() for dataset in datasets]).unify_dictionaries()
    return Dataset.make(table, first.classes, history)


def features(dataset: Dataset) -> npt.NDArray[np.float32]:
    """The model's input: (N, C, H, W) of the one tensor column, or (N, columns) of numeric columns.

    uint8 images are divided by 255; others are taken as they are. (H, W) becomes one channel, (H, W, C) goes
    channel first.

    Raises:
        UnfitInput: text columns, nulls, or a tensor beside other columns.
    """
    names = dataset.feature_names
    columns = [dataset.table[name] for name in names]
    tensors = [column for column in columns if isinstance(column.type, pa.FixedShapeTensorType)]
    if tensors:
        if len(columns) != 1:
            raise UnfitInput("features", f"a tensor beside {len(columns) - 1} other columns", "one tensor column alone")
        return _images(tensors[0])
    for name, column in zip(names, columns, strict=True):
        if not (
            pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
        ):
            raise UnfitInput(f"feature {name!r}", str(column.type), "a number or boolean")
        if column.null_count:
            raise UnfitInput(f"feature {name!r}", f"{column.null_count} nulls", "none; let sanitize quarantine them")
    if not columns:
        raise UnfitInput("features", "no feature column", "at least one")
    return np.stack([column.to_numpy().astype(np.float32) for column in columns], axis=1)


def labels(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Labels, (N,) int64."""
    return np.asarray(dataset.table["label"].to_numpy(), dtype=np.int64)


def _images(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    shape = tuple(column.type.shape)
    parts = [chunk.to_numpy_ndarray() for chunk in column.chunks] or [np.empty((0, *shape), np.float32)]
    images = np.concatenate(parts)
    scaled: npt.NDArray[np.float32] = images.astype(np.float32)
    if images.dtype == np.uint8:
        scaled /= np.float32(255)
    if scaled.ndim == 3:
        return scaled[:, None]
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)) if scaled.shape[-1] in (1, 3, 4) else scaled


def _require_files(folder: Path) -> None:
    """Every file that was written is there as it was; what only other encodings would show is found here too.

    No proof against whoever can write both: that is the manifest's digest, in the ledger and in signed evidence.
    """
    if not (folder / FILES).exists():  # written since release 0.2
        return
    document = canonical.require_schema(canonical.read(folder / FILES), "assay.files", str(folder / FILES))
    listed = document.get("files")
    names = {"manifest.json", *(f"data/{part.name}" for part in (folder / "data").glob("*.parquet"))}
    if not isinstance(listed, dict) or not names <= set(listed):
        raise UnfitInput(str(folder / FILES), "another list", "one of the manifest and every Parquet file")
    for name, digest in listed.items():
        if canonical.file_digest(folder / name) != digest:
            raise UnfitInput(
                str(folder / name), "other bytes than were written", f"SHA-256 {digest}", "Fetch or ingest it again."
            )


def _canonical(table: pa.Table) -> pa.Table:
    missing = [name for name in (*KEYS, "label") if name not in table.column_names]
    if missing:
        raise UnfitInput("table", f"columns {table.column_names}", f"the columns {missing} too")
    order = [*KEYS, *(name for name in table.column_names if name not in RESERVED), "label"]
    order += ["weight"] if "weight" in table.column_names else []
    table = table.select(order).replace_schema_metadata(None)
    batch = pa.chunked_array(table["batch"].cast(pa.string()).chunks, pa.string()).combine_chunks()
    table = table.set_column(0, "batch", (batch if isinstance(batch, pa.Array) else batch.chunk(0)).dictionary_encode())
    table = table.set_column(1, "row", table["row"].cast(pa.int64()))
    table = table.set_column(table.column_names.index("label"), "label", table["label"].cast(pa.int64()))
    table = table.take(pa.array(records.sort_order(table))).combine_chunks()
    _require_unique(table)
    return table


def _require_unique(table: pa.Table) -> None:
    if table.num_rows < 2:
        return
    indices = table["batch"].combine_chunks()
    codes = (indices.chunk(0) if isinstance(indices, pa.ChunkedArray) else indices).indices.to_numpy()
    row = table["row"].to_numpy()
    same = (codes[1:] == codes[:-1]) & (row[1:] == row[:-1])
    if same.any():
        at = int(np.flatnonzero(same)[0])
        raise UnfitInput("record id", f"{records.record_ids(table.slice(at, 1))[0]} twice", "each record once")


def column_of(column: pa.Field) -> Column:
    """A column as manifests write it."""
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return Column(column.name, str(kind.value_type), tuple(kind.shape))
    return Column(column.name, "batch" if column.name == "batch" else str(kind))


def _shares(table: pa.Table, known: Sequence[BatchShare]) -> tuple[BatchShare, ...]:
    counts: Counter[Any] = Counter(table["batch"].to_pylist())
    by_name = {f"{share.source}/{share.batch}": share for share in known}
    unknown = sorted(set(counts) - set(by_name))
    if unknown:
        raise UnfitInput("history.sources", f"no entry for batch {unknown[0]}", "one for every batch of the table")
    return tuple(replace(by_name[name], records=counts[name]) for name in sorted(counts, key=str.encode))
