"""Lines of a CSV file, block after block: those as wide as the header as cells, the others refused.

A block without quotes whose lines are all as wide as the header is split by pyarrow, which then gives the very cells
that splitting every line at its commas gives; any other block is split line by line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from assay.config.ingest import IngestConfig, Limits
from assay.errors import UnfitInput
from assay.ingest.rows import Delivery, Refusal
from assay.ingest.unpack import Read, opened

BLOCK_BYTES = 2**22
MARK = b"\xef\xbb\xbf"  # a byte order mark
LF, CR, COMMA = 10, 13, 44
Ints = npt.NDArray[np.int64]

__all__ = ["Block", "blocks"]


@dataclass(frozen=True)
class Block:
    """Consecutive lines.

    Fields:
        header: names of the columns.
        cells: every column as text, (N,) each, of the lines that are as wide as the header.
        rows: their positions among the data rows of the file, (N,).
        refused: the other lines.
        data: the bytes that ``places`` are about.
        places: number of the line, counted from 1, and where it begins and ends in ``data``, (N, 3).
    """

    header: list[str]
    cells: list[pa.Array]
    rows: Ints
    refused: list[Refusal]
    data: bytes
    places: Ints

    def refusal(self, place: int, reason: str) -> Refusal:
        """The refusal of the record at a position among those that were wide enough."""
        line, start, stop = self.places[place].tolist()
        return Refusal(int(self.rows[place]), line, reason, self.data[start:stop])


def blocks(delivery: Delivery, config: IngestConfig) -> Iterator[Block]:
    """The lines of a file after its header; at least one block, which may be empty.

    Raises:
        UnfitInput: an empty file, a header that cannot be read, more rows than the limit, or a broken file.
    """
    header: list[str] | None = None
    row = 0
    with opened(delivery.path, config.limits) as read:
        for data, places in _lines(read):
            if header is None and len(places):
                header, places = _header(data, places[0], delivery.name, config.limits), places[1:]
            elif header is None:
                continue
            if row + len(places) > config.limits.rows:
                got, need = f"more than {config.limits.rows} rows", "less (ingest.limits.rows)"
                raise UnfitInput(f"batch {delivery.name}", got, need)
            yield _block(header, data, places, row, config.limits)
            row += len(places)
    if header is None:
        raise UnfitInput(f"batch {delivery.name}", "an empty file", "a header and records")


def _lines(read: Read) -> Iterator[tuple[bytes, Ints]]:
    """Whole lines, and of each that is not blank its number and where it begins and ends, without its ending."""
    number, waiting = 1, list[bytes]()
    while True:
        got = read(BLOCK_BYTES)
        end = got.rfind(b"\n") + 1
        if got and not end:
            waiting.append(got)
            continue
        data = b"".join([*waiting, got[:end]])
        waiting = [got[end:]]
        signs = np.frombuffer(data, np.uint8)
        stops = np.flatnonzero(signs == LF)
        starts = np.concatenate([[0], stops + 1]).astype(np.int64)
        stops = np.append(stops, len(data)) if starts[-1] < len(data) else stops
        starts = starts[: len(stops)]
        numbers = np.arange(number, number + len(stops))
        number += len(stops)
        if len(data):
            stops = stops - ((stops > starts) & (signs[np.maximum(stops - 1, 0)] == CR))
            full = stops > starts
            yield data, np.stack([numbers[full], starts[full], stops[full]], axis=1)
        if not got:
            return


def _header(data: bytes, place: Ints, batch: str, limits: Limits) -> list[str]:
    number, start, stop = place.tolist()
    cells = _cells(data[start:stop].removeprefix(MARK), None, limits)
    if isinstance(cells, str):
        raise UnfitInput(f"batch {batch}: line {number}", cells, "a header in UTF-8, separated by commas")
    return cells


def _block(header: list[str], data: bytes, places: Ints, row: int, limits: Limits) -> Block:
    rows = np.arange(row, row + len(places))
    if len(places) and _plain(data, places, len(header), limits):
        return Block(header, _split(data[places[0, 1] :], len(header)), rows, [], data, places)
    refused: list[Refusal] = []
    good, cells = [], []
    for at, (number, start, stop) in enumerate(places.tolist()):
        line = data[start:stop]
        found = _cells(line, len(header), limits)
        if isinstance(found, str):
            refused.append(Refusal(row + at, number, found, line))
        else:
            good.append(at)
            cells.append(found)
    columns = [pa.array(column, pa.string()) for column in zip(*cells, strict=True)]
    columns = columns or [pa.array([], pa.string()) for _ in header]
    return Block(header, columns, rows[good], refused, data, places[good])


def _plain(data: bytes, places: Ints, width: int, limits: Limits) -> bool:
    """Whether splitting at commas is all there is to do."""
    first = int(places[0, 1])
    signs = np.frombuffer(data, np.uint8)[first:]
    starts, stops = places[:, 1] - first, places[:, 2] - first
    commas = np.flatnonzero(signs == COMMA)
    returns = np.flatnonzero(signs == CR)
    counts = np.searchsorted(commas, stops) - np.searchsorted(commas, starts)
    return bool(
        width > 1
        and (counts == width - 1).all()
        and (stops - starts).max() <= limits.line_bytes
        and np.isin(returns, stops).all()
        and b'"' not in data
        and b"\0" not in data
        and not data.startswith(MARK, first)
        and _utf8(data)
    )


def _utf8(data: bytes) -> bool:
    try:
        return data.isascii() or bool(data.decode())
    except UnicodeDecodeError:
        return False


def _split(data: bytes, width: int) -> list[pa.Array]:
    """The cells of lines that `_plain` has seen."""
    names = [str(at) for at in range(width)]
    types = dict.fromkeys(names, pa.string())
    table = pa.csv.read_csv(
        pa.py_buffer(data),
        read_options=pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
        parse_options=pa.csv.ParseOptions(quote_char=False, double_quote=False, escape_char=False),
        convert_options=pa.csv.ConvertOptions(column_types=types, strings_can_be_null=False),
    )
    return [table[name].combine_chunks() for name in names]


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
