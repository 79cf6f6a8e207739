"""CSV, strictly: one record a line, every line as wide as the header, every number written as a number.

What does not fit is kept raw, with its line and reason, never guessed at: ``pandas.read_csv`` shifts the columns of a
line with one comma too many, reads ``1,000`` as 0 beside an index of 1, ``007`` as 7 and ``1e400`` as infinity. A line
break within quotes is refused, for one stray quote would swallow the records after it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.config.ingest import IngestConfig, Limits
from assay.errors import UnfitInput, UnknownName
from assay.ingest.columns import require_columns
from assay.ingest.rows import Delivery, Refusal, Rows, require_share
from assay.ingest.unpack import unpacked

NUMBER = r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
SPECIAL = r"(?i:[+-]?(?:inf|infinity)|nan)"
LIKE_A_NUMBER = r"(?i)^\s*[+-]?(?:[0-9][0-9.,_' ]*|\.[0-9]+)(?:e[+-]?[0-9]+)?\s*%?$"
INSTANT = r"(?a)\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?P<zone>Z|[+-]\d\d:\d\d)?"
NONZERO = r"^[+-]?[0.]*[1-9]"
CHUNK_ROWS = 65_536

__all__ = ["Csv"]


@dataclass(frozen=True)
class Csv:
    """Reads ``.csv`` and ``.csv.gz``: UTF-8, comma, a header, RFC 4180 quotes within one line.

    A column is one of numbers (float64) when at least half of its cells look like numbers, else one of text, unless
    ``ingest.types`` says which. Missing numbers become nulls, ``nan`` and ``inf`` the floats of that name, and both are
    for sanitize to judge. A cell of a number column that is written otherwise (``1,000``, ``007``), overflows, or is an
    integer no float64 holds, refuses its row.
    """

    endings: ClassVar[tuple[str, ...]] = (".csv", ".csv.gz")

    def read(self, delivery: Delivery, config: IngestConfig) -> Rows:
        """Read a batch whole; see `Reader.read`."""
        lines = _Lines(unpacked(delivery.path, config.limits), delivery.name, config)
        for name in config.types:
            if name not in lines.features:
                raise UnknownName("column in ingest.types", name, lines.features)
        columns = lines.columns()
        cells = dict(zip(lines.header, columns, strict=True))
        faults = np.full(len(lines.rows), "", dtype=object)
        table = {"row": pa.array(lines.rows, pa.int64())}
        for name in lines.features:
            table[name] = _feature(name, cells[name], config, faults)
        labels = cells[config.label]
        faults[pc.is_in(labels, pa.array(config.missing, pa.string())).to_numpy() & (faults == "")] = "missing_label"
        bad = np.flatnonzero(faults != "")
        refused = [*lines.refused, *(lines.refusal(int(place), str(faults[place])) for place in bad)]
        require_share(delivery.name, len(lines.rows) + len(lines.refused), refused, config.limits.refused_share)
        good = pa.table({**table, "label": labels}).filter(pa.array(faults == ""))
        return Rows(good, tuple(sorted(refused, key=lambda refusal: refusal.row)))


class _Lines:
    """The lines of a file: those as wide as the header as cells, the others as refusals."""

    def __init__(self, data: bytes, batch: str, config: IngestConfig) -> None:
        self.data, self.batch, self.limits = data, batch, config.limits
        self.refused: list[Refusal] = []
        self.rows: list[int] = []
        self.places: list[tuple[int, int, int]] = []
        self._numbered = self._split()
        self.header = self._header()
        self.features = require_columns(self.header, config, batch)

    def columns(self) -> list[pa.ChunkedArray]:
        """Every column as text, in chunks."""
        chunks: list[list[pa.Array]] = [[] for _ in self.header]
        block: list[list[str]] = []
        for cells in self._records():
            block.append(cells)
            if len(block) == CHUNK_ROWS:
                _append(chunks, block)
        _append(chunks, block)
        return [pa.chunked_array(parts, pa.string()) for parts in chunks]

    def refusal(self, place: int, reason: str) -> Refusal:
        """The refusal of the record at a position among those that were wide enough."""
        line, start, stop = self.places[place]
        return Refusal(self.rows[place], line, reason, self.data[start:stop])

    def _split(self) -> Iterator[tuple[int, int, bytes]]:
        """Number, offset and bytes of every line that is not blank, without its ending."""
        start = 0
        for number, line in enumerate(io.BytesIO(self.data), 1):
            bare = line.removesuffix(b"\n").removesuffix(b"\r")
            if bare:
                yield number, start, bare
            start += len(line)

    def _header(self) -> list[str]:
        number, _, line = next(self._numbered, (0, 0, b""))
        if not number:
            raise UnfitInput(f"batch {self.batch}", "an empty file", "a header and records")
        cells = _cells(line.removeprefix(b"\xef\xbb\xbf"), None, self.limits)
        if isinstance(cells, str):
            raise UnfitInput(f"batch {self.batch}: line {number}", cells, "a header in UTF-8, separated by commas")
        return cells

    def _records(self) -> Iterator[list[str]]:
        for row, (number, start, line) in enumerate(self._numbered):
            if row >= self.limits.rows:
                raise UnfitInput(
                    f"batch {self.batch}", f"more than {self.limits.rows} rows", "less (ingest.limits.rows)"
                )
            cells = _cells(line, len(self.header), self.limits)
            if isinstance(cells, str):
                self.refused.append(Refusal(row, number, cells, line))
            else:
                self.rows.append(row)
                self.places.append((number, start, start + len(line)))
                yield cells


def _cells(line: bytes, width: int | None, limits: Limits) -> list[str] | str:
    """The cells of one line, or the reason why it has none."""
    if len(line) > limits.line_bytes:
        return "line_too_long"
    if b"\0" in line or b"\r" in line:
        return "control_character"
    try:
        text = line.decode()
        cells = next(csv.reader([text], strict=True)) if '"' in text else text.split(",")
    except UnicodeDecodeError:
        return "not_utf8"
    except (csv.Error, StopIteration):
        return "quoting"
    return cells if width in (None, len(cells)) else "field_count"


def _append(chunks: list[list[pa.Array]], block: list[list[str]]) -> None:
    for column, cells in zip(chunks, zip(*block, strict=True), strict=False):
        column.append(pa.array(cells, pa.string()))
    block.clear()


def _feature(
    name: str, cells: pa.ChunkedArray, config: IngestConfig, faults: npt.NDArray[np.object_]
) -> pa.ChunkedArray | pa.Array:
    """A column in its type; notes in ``faults`` which rows hold a cell that it cannot hold."""
    missing = pc.is_in(cells, pa.array(config.missing, pa.string())).to_numpy()
    like = pc.match_substring_regex(cells, f"{LIKE_A_NUMBER}|^{SPECIAL}$").to_numpy() & ~missing
    kind = config.types.get(name) or ("number" if like.any() and 2 * like.sum() >= (~missing).sum() else "text")
    if kind == "time":
        return _times(cells, missing, config.latest, faults)
    if kind == "text":
        return pc.if_else(pa.array(missing), None, cells)
    written = pc.match_substring_regex(cells, f"^(?:{NUMBER}|{SPECIAL})$").to_numpy() & ~missing
    values = np.zeros(len(cells))
    texts = cells.filter(pa.array(written)).to_pylist()
    values[written] = np.fromiter(map(float, texts), dtype=np.float64, count=len(texts))
    fault = np.where(written | missing, "", "number_format").astype(object)
    vanished = (values == 0) & pc.match_substring_regex(cells, NONZERO).to_numpy()
    for place in np.flatnonzero(written & (~np.isfinite(values) | (np.abs(values) >= 2**53) | vanished)):
        fault[place] = _inexact(cells[int(place)].as_py(), float(values[place]))
    faults[:] = np.where(faults == "", fault, faults)
    return pa.array(values, mask=missing)


def _times(
    cells: pa.ChunkedArray, missing: npt.NDArray[np.bool_], latest: str, faults: npt.NDArray[np.object_]
) -> pa.Array:
    """A column of instants; one without a zone could be any of 38 hours, and is never guessed at."""
    limit = datetime.fromisoformat(latest) if latest else None
    found: list[datetime | None] = []
    for place, text in enumerate(cells.to_pylist()):
        reason, instant = ("", None) if missing[place] else _instant(text)
        if instant is not None and limit is not None and instant > limit:
            reason, instant = "future_time", None
        if reason and not faults[place]:
            faults[place] = reason
        found.append(instant)
    return pa.array(found, pa.timestamp("us", "UTC"))


def _instant(text: str) -> tuple[str, datetime | None]:
    """Why a cell is no instant, or nothing and the instant in UTC."""
    match = re.fullmatch(INSTANT, text)
    if match is None:
        return "time_format", None
    if not match["zone"]:
        return "time_zone", None
    try:
        return "", datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return "time_range", None


def _inexact(text: str, value: float) -> str:
    """Why a float does not hold what is written, or nothing."""
    if re.fullmatch(SPECIAL, text):
        return ""
    if not np.isfinite(value) or value == 0:
        return "number_range"
    whole = re.fullmatch(r"[+-]?[0-9]{1,400}", text)
    return "number_not_exact" if whole and int(text) != int(value) else ""
