"""A dataset for what fits proxies to its features: those lie in a file, keys and labels in memory.

keys, x = held(DatasetReader(path), folder)
x[rows]                                 only what is asked for is in memory, and no longer than it is used
"""

from __future__ import annotations

import errno
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.data.dataset import Dataset, features
from assay.data.layout import KEYS
from assay.data.stream import DatasetReader

Inputs = npt.NDArray[np.float32]
BLOCK_BYTES = 2**24

__all__ = ["HeldRows", "Inputs", "held", "hold", "row_blocks"]


@dataclass(frozen=True)
class HeldRows:
    """Rows of float32 in a file, to be indexed as an array is along its first axis.

    Fields:
        path: of the file, C order, native bytes.
        shape: of all rows.
    """

    path: Path
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Axes, the rows among them."""
        return len(self.shape)

    def __getitem__(self, rows: Any) -> Inputs:
        """A copy of some rows: a slice, their numbers, or a mask.

        They are read, not mapped: of a file in the cache a page fault brings two megabytes into memory for one row.
        """
        if isinstance(rows, slice):
            first, stop, step = rows.indices(len(self))
            at = np.arange(first, stop, step)
        else:
            given = np.asarray(rows)
            at = np.flatnonzero(given) if given.dtype == np.bool_ else given.astype(np.int64)
        found = np.empty((len(at), *self.shape[1:]), np.float32)
        if found.size:
            if at.min() < 0 or at.max() >= len(self):
                raise IndexError(f"rows {at.min()} to {at.max()} of {len(self)}")
            self._read(at, found)
        return found

    def flat(self, first: int, stop: int) -> Inputs:
        """A copy of some of the numbers, counted through all rows."""
        return np.fromfile(self.path, np.float32, stop - first, offset=4 * first)

    def _read(self, at: npt.NDArray[np.int64], found: Inputs) -> None:
        """Rows that follow each other at once."""
        width, ends = 4 * math.prod(self.shape[1:]), np.flatnonzero(np.diff(at) != 1) + 1
        with self.path.open("rb", buffering=0) as file:
            for start, stop in itertools.pairwise([0, *ends.tolist(), len(at)]):
                file.seek(int(at[start]) * width)
                need = found[start:stop].reshape(-1).view(np.uint8).data
                while need:
                    done = file.readinto(need)
                    if not done:
                        raise OSError(errno.EIO, "a file that is cut short", str(self.path))
                    need = need[done:]


def hold(path: Path, blocks: Iterable[Inputs]) -> HeldRows:
    """Write blocks of rows, at least one, into a file.

    Args:
        path: of the file.
        blocks: (n, ...) float32 each, of rows of one shape.
    """
    count, shape = 0, tuple[int, ...]()
    with path.open("wb") as file:
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=np.float32).data)
            count, shape = count + len(block), block.shape[1:]
    return HeldRows(path, (count, *shape))


def held(given: DatasetReader, folder: Path) -> tuple[Dataset, HeldRows]:
    """Keys and labels of a dataset as a table without features, and its features, every byte checked.

    Args:
        given: read once.
        folder: takes the file, 4 bytes a number.

    Raises:
        UnfitInput: records that differ from the manifest; features that `assay.data.dataset.features` refuses.
    """
    parts: list[pa.Table] = []

    def blocks() -> Iterator[Inputs]:
        for table in given.tables():
            parts.append(pa.table(table.select([*KEYS, "label"]).columns, names=[*KEYS, "label"]))
            step = max(1, table.num_rows * BLOCK_BYTES // (4 * max(1, table.nbytes)))  # of bytes, 16 MiB as float32
            for first in range(0, max(1, table.num_rows), step):
                yield features(Dataset(table.slice(first, step), given.manifest))

    x = hold(folder / "features.f32", blocks())
    return Dataset(pa.concat_tables(parts).unify_dictionaries().combine_chunks(), given.manifest), x


def row_blocks(shape: tuple[int, ...], unit: int = 1) -> Iterator[slice]:
    """Stretches of rows that cover all, of about 16 MiB of float32 each and a multiple of so many rows."""
    bytes_a_row = 4 * max(1, math.prod(shape[1:]))
    step = max(1, BLOCK_BYTES // bytes_a_row // unit) * unit
    for first in range(0, shape[0], step):
        yield slice(first, min(first + step, shape[0]))
