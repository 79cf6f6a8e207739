"""Record ids: ``<source>/<batch>:<row>``, stable through every step."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.errors import UnfitInput

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ROW_DIGITS = 18  # so that a row fits into 64 bits
_ID = re.compile(rf"({NAME.pattern})/({NAME.pattern}):(0|[1-9][0-9]*)")

__all__ = ["NAME", "RecordId", "id_column", "record_ids", "require_name", "rows_of", "sort_order", "sources"]


class RecordId(NamedTuple):
    """One record of one batch of one source; ``str`` gives the text form that people and JSON use."""

    source: str
    batch: str
    row: int

    def __str__(self) -> str:
        return f"{self.source}/{self.batch}:{self.row}"

    @classmethod
    def parse(cls, text: str) -> RecordId:
        """Read the text form.

        Raises:
            UnfitInput: another form.
        """
        match = _ID.fullmatch(text)
        if match is None or len(match[3]) > ROW_DIGITS:
            raise UnfitInput("record id", repr(text), "<source>/<batch>:<row>, such as clinic/2024-03:17")
        return cls(match[1], match[2], int(match[3]))


def require_name(kind: str, name: str, fix: str = "") -> str:
    """The name itself when it may name a source or a batch; ``fix`` says where it can be given."""
    if not NAME.fullmatch(name):
        raise UnfitInput(f"{kind} name", repr(name), f"to match {NAME.pattern}", fix)
    return name


def record_ids(table: pa.Table) -> list[str]:
    """The text form of every record id of a table, in its order."""
    return list(id_column(table).to_pylist())


def id_column(table: pa.Table) -> pa.Array:
    """`record_ids` as an Arrow array of text."""
    parts = pc.cast(table["batch"], pa.string()), pc.cast(table["row"], pa.string())
    return pc.binary_join_element_wise(*parts, ":").combine_chunks()


def sources(table: pa.Table) -> list[str]:
    """The source of every record, in the table's order."""
    return [batch.partition("/")[0] for batch in table["batch"].to_pylist()]


def sort_order(table: pa.Table) -> npt.NDArray[np.int64]:
    """The permutation that brings records into canonical order: by batch (byte order), then row."""
    batch = table["batch"].combine_chunks().dictionary_encode()
    if isinstance(batch, pa.ChunkedArray):
        batch = batch.combine_chunks()
    names = [name.encode() for name in batch.dictionary.to_pylist()]
    rank = np.empty(len(names), dtype=np.int64)
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    keys = rank[batch.indices.to_numpy(zero_copy_only=False)] if len(names) else np.empty(0, dtype=np.int64)
    return np.lexsort((table["row"].to_numpy(), keys)).astype(np.int64)


def rows_of(table: pa.Table, ids: list[str]) -> npt.NDArray[np.int64]:
    """Positions in the table of the given record ids, in the given order.

    Raises:
        UnfitInput: an id that the table does not hold.
    """
    place = {name: position for position, name in enumerate(record_ids(table))}
    missing = next((name for name in ids if name not in place), None)
    if missing is not None:
        raise UnfitInput("record id", missing, "a record of this dataset")
    return np.array([place[name] for name in ids], dtype=np.int64)
