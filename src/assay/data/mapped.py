"""A dataset of any size for what needs all records at hand: its columns lie in a file, of which memory holds a part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from assay.data.dataset import Dataset
from assay.data.files import temporary_folder
from assay.data.manifest import Manifest

__all__ = ["mapped"]


@contextmanager
def mapped(tables: Iterable[pa.Table], manifest: Manifest, beside: Path) -> Iterator[Dataset]:
    """The records of some tables, at least one, as a dataset; pages of the file come and go as memory allows.

    Args:
        tables: of one schema; their batches may differ.
        manifest: what the dataset says of itself; its counts need not be those of the tables.
        beside: the file lies next to this path while the block runs, and takes as much as the records do in memory.
    """
    with temporary_folder(beside.with_name(f"{beside.name}-mapped")) as folder:
        path, given = folder / "records.arrow", iter(tables)
        first = next(given)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, first.schema) as writer:
            writer.write_table(first)
            for table in given:
                writer.write_table(table)
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            yield Dataset(reader.read_all().unify_dictionaries(), manifest)
