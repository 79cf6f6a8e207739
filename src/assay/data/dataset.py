"""A dataset in memory: its records in canonical order, and the manifest that names them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.data import records
from assay.data.layout import KEYS, Account, column_of, features_of, require_room, typed
from assay.data.manifest import History, Manifest
from assay.data.merkle import block_digests, merkle_root
from assay.data.stream import DatasetReader, RecordList, writing
from assay.errors import UnfitInput

__all__ = ["KEYS", "Dataset", "column_of", "concat", "features", "labels", "quantities", "record_list_root"]


@dataclass(frozen=True)
class Dataset:
    """Records and the manifest that names them.

    Fields:
        table: columns ``batch`` (dictionary of text, ``<source>/<batch>``), ``row`` (int64), features, ``label``
            (int64 in [0, classes), or float64 where there are no classes), and maybe ``weight``; in canonical order.
        manifest: agrees with the table.
    """

    table: pa.Table
    manifest: Manifest

    @classmethod
    def make(cls, table: pa.Table, classes: Sequence[str], history: History) -> Dataset:
        """Bring a table into canonical order and write its manifest.

        Args:
            table: the columns named above, in any row order; record ids unique.
            classes: names of the classes; none where the label is a quantity.
            history: where the records came from; the counts of ``sources`` are recomputed from the table.

        Raises:
            UnfitInput: a missing column, a record id twice, or a label outside the classes.
        """
        table = typed(table, classes)
        table = table.take(pa.array(records.sort_order(table))).combine_chunks()
        account = Account(classes)
        account.add(table)
        content, ids = account.close()
        return cls(table, Manifest(content, replace(history, sources=account.shares(history.sources), record_list=ids)))

    @classmethod
    def load(cls, path: Path | str) -> Dataset:
        """Read a dataset folder whole and check every byte against its manifest.

        Raises:
            UnfitInput: no such folder, a broken file, or records that differ from the manifest.
        """
        reader = DatasetReader(path)
        table = pa.concat_tables(list(reader.tables())).unify_dictionaries().combine_chunks()
        return cls(table, reader.manifest)

    def save(
        self, path: Path | str, extra: dict[str, bytes] | None = None, fill: Callable[[Path], object] | None = None
    ) -> None:
        """Write the folder whole or not at all; ``extra`` files and what ``fill`` adds go beside the manifest."""
        with writing(path, self.manifest.content.classes) as writer:
            writer.add(self.table)
            writer.finish(self.manifest.history)
            for name, data in (extra or {}).items():
                (writer.folder / name).write_bytes(data)
            if fill is not None:
                fill(writer.folder)

    def record_list(self) -> bytes:
        """The Parquet bytes of the list of records, for the ledger."""
        listed = RecordList(io.BytesIO())
        listed.add(self.table)
        listed.close()
        return listed.bytes()

    def require_room(self, path: Path | str) -> None:
        """Refuse a folder that holds something else; see `layout.require_room`."""
        require_room(path, self.manifest.digest)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def record_ids(self) -> list[str]:
        """Every record id, in order."""
        return records.record_ids(self.table)

    @property
    def feature_names(self) -> list[str]:
        """The columns that are neither key, label nor weight."""
        return features_of(self.table)

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_], history: History) -> Dataset:
        """The records at the given positions, or where the mask is true, under a new history."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Dataset.make(self.table.take(pa.array(positions)), self.manifest.content.classes, history)


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
    """Labels, (N,) int64.

    Raises:
        UnfitInput: the labels are quantities.
    """
    dataset.manifest.content.require_classes("labels")
    return np.asarray(dataset.table["label"].to_numpy(), dtype=np.int64)


def quantities(dataset: Dataset) -> npt.NDArray[np.float64]:
    """Labels that are quantities, (N,) float64.

    Raises:
        UnfitInput: the labels are classes.
    """
    if not dataset.manifest.content.regression:
        raise UnfitInput("labels", "classes", "quantities", "Ingest the records with task: regression.")
    return np.asarray(dataset.table["label"].to_numpy(), dtype=np.float64)


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
