"""What a reader gives: the rows that fit a table, and those that do not, kept raw."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay import canonical
from assay.config.ingest import IngestConfig
from assay.errors import UnfitInput

__all__ = ["Delivery", "Reader", "Refusal", "Refused", "Rows", "fetch_row", "raw_bytes", "tensor_or_columns"]


@dataclass(frozen=True)
class Delivery:
    """The files of one batch, on this machine.

    Fields:
        name: ``<source>/<batch>``.
        path: of the data.
        labels: path of the labels beside it, or None.
    """

    name: str
    path: Path
    labels: Path | None = None


@dataclass(frozen=True)
class Refusal:
    """A row that no schema can hold.

    Fields:
        row: its position among the data rows of the file.
        line: in the file, counted from 1; 0 where a file has no lines.
        reason: code such as ``field_count``.
        data: the row as the file has it (CSV), or as a stream of one Arrow record (other formats).
    """

    row: int
    line: int
    reason: str
    data: bytes


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a batch as read.

    Fields:
        table: ``row`` (int64), features, ``label`` (text or int64, no nulls), in the file's order; the columns and
            types are the same in every piece of a batch.
        refused: the other rows among them, in order.
    """

    table: pa.Table
    refused: tuple[Refusal, ...] = ()


class Reader(Protocol):
    """A member of ``ingest.readers``."""

    endings: tuple[str, ...]

    def chunks(self, delivery: Delivery, config: IngestConfig) -> Iterator[Rows]:
        """Read a batch, rows after rows; at least once, and to the end before any of it counts.

        Raises:
            UnfitInput: it is not what its ending says, or exceeds a limit.
        """
        ...


class Refused:
    """Counts refused rows, and remembers the first."""

    def __init__(self) -> None:
        self.first: Refusal | None = None
        self.count = self.rows = 0

    def note(self, rows: int, refused: Sequence[Refusal]) -> None:
        """Of so many rows these were refused, in order."""
        self.first = self.first or next(iter(refused), None)
        self.count += len(refused)
        self.rows += rows

    def require_share(self, name: str, share: float) -> None:
        """Refuse the batch when more than a share of its rows was refused.

        Raises:
            UnfitInput: names the first refused row and its reason.
        """
        if self.first is None or self.count <= share * self.rows:
            return
        place = f"line {self.first.line}" if self.first.line else f"row {self.first.row}"
        raise UnfitInput(
            f"batch {name}: {place}",
            f"{self.first.reason} ({self.first.data[:80]!r}), and {self.count} of {self.rows} rows refused",
            f"at most a share of {share}",
            "Mend the file, or declare its columns under ingest.types and its empty cells under ingest.missing.",
        )


def raw_bytes(batch: str, refused: Sequence[Refusal]) -> bytes:
    """JSON lines of refused rows: batch, row, line, reason and the bytes in base64."""
    return b"".join(
        canonical.dumps(
            {
                "batch": batch,
                "row": refusal.row,
                "line": refusal.line,
                "reason": refusal.reason,
                "bytes": base64.b64encode(refusal.data).decode(),
            }
        )
        + b"\n"
        for refusal in refused
    )


def fetch_row(table: pa.Table, position: int) -> bytes:
    """One row as the bytes of an Arrow stream, the same wherever it stood in the table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.take(pa.array([position])))
    return bytes(sink.getvalue())


def tensor_or_columns(name: str, values: npt.NDArray[Any]) -> dict[str, pa.Array]:
    """Feature columns of an array: (N, d) gives ``x0`` to ``x<d-1>``, more dimensions one tensor column ``image``.

    Raises:
        UnfitInput: fewer than two dimensions, no cell, or values that are no numbers.
    """
    if values.ndim < 2 or 0 in values.shape[1:]:
        raise UnfitInput(
            f"batch {name}: features", f"shape {values.shape}", "(records, features) or (records, height, width, ...)"
        )
    if values.dtype.kind not in "iufb" or values.dtype.itemsize > 8:
        raise UnfitInput(f"batch {name}: features", str(values.dtype), "numbers of at most 64 bits")
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    if native.ndim == 2:
        return {f"x{column}": pa.array(np.ascontiguousarray(native[:, column])) for column in range(native.shape[1])}
    if native.dtype.kind == "b":
        native = native.astype(np.uint8)
    return {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(native)}
