"""CSV, strictly: one record a line, every line as wide as the header, every number written as a number.

What does not fit is kept raw, with its line and reason, never guessed at: ``pandas.read_csv`` shifts the columns of a
line with one comma too many, reads ``1,000`` as 0 beside an index of 1, ``007`` as 7 and ``1e400`` as infinity. A line
break within quotes is refused, for one stray quote would swallow the records after it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.config.ingest import IngestConfig
from assay.errors import UnknownName
from assay.ingest.columns import require_columns
from assay.ingest.lines import Block, blocks
from assay.ingest.rows import Delivery, Refused, Rows

NUMBER = r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
SPECIAL = r"(?i:[+-]?(?:inf|infinity)|nan)"
LIKE_A_NUMBER = r"(?i)^\s*[+-]?(?:[0-9][0-9.,_' ]*|\.[0-9]+)(?:e[+-]?[0-9]+)?\s*%?$"
INSTANT = r"(?a)\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?P<zone>Z|[+-]\d\d:\d\d)?"
NONZERO = r"^[+-]?[0.]*[1-9]"
PLAIN = np.isin(np.arange(256), np.frombuffer(b"0123456789.-+eE", np.uint8))
DIGIT = np.isin(np.arange(256), np.frombuffer(b"0123456789", np.uint8))

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

    def chunks(self, delivery: Delivery, config: IngestConfig) -> Iterator[Rows]:
        """Read a batch, block after block; see `Reader.chunks`. Types of columns are found in a pass before."""
        kinds, share = _kinds(delivery, config), Refused()
        for block in blocks(delivery, config):
            rows = _typed(block, kinds, config)
            share.note(len(block.rows) + len(block.refused), rows.refused)
            yield rows
        share.require_share(delivery.name, config.limits.refused_share)


def _typed(block: Block, kinds: dict[str, str], config: IngestConfig) -> Rows:
    """A block with every feature in its type, and what no type can hold."""
    cells = dict(zip(block.header, block.cells, strict=True))
    faults = np.full(len(block.rows), "", dtype=object)
    table = {"row": pa.array(block.rows, pa.int64())}
    for name, kind in kinds.items():
        table[name] = _feature(cells[name], kind, config, faults)
    labels = cells[config.label]
    faults[_missing(labels, config) & (faults == "")] = "missing_label"
    if config.task == "regression":
        labels = _feature(labels, "number", config, faults)
        finite = np.isfinite(labels.to_numpy(zero_copy_only=False))
        faults[~finite & (faults == "")] = "label_not_finite"
    bad = np.flatnonzero(faults != "")
    refused = [*block.refused, *(block.refusal(int(place), str(faults[place])) for place in bad)]
    good = pa.table({**table, "label": labels})
    good = good.filter(pa.array(faults == "")) if len(bad) else good
    return Rows(good, tuple(sorted(refused, key=lambda refusal: refusal.row)))


def _kinds(delivery: Delivery, config: IngestConfig) -> dict[str, str]:
    """The type of every feature: as configured, or one of numbers where half of the cells look like numbers."""
    like: Counter[str] = Counter()
    present: Counter[str] = Counter()
    features: list[str] = []
    for block in blocks(delivery, config):
        features = require_columns(block.header, config, delivery.name)
        unknown = next((name for name in config.types if name not in features), None)
        if unknown is not None:
            raise UnknownName("column in ingest.types", unknown, features)
        if all(name in config.types for name in features):
            break
        for name, cells in zip(block.header, block.cells, strict=True):
            if name in features and name not in config.types:
                missing = _missing(cells, config)
                present[name] += int((~missing).sum())
                like[name] += int(_like(cells, missing).sum())
    number = {name for name in features if like[name] and 2 * like[name] >= present[name]}
    return {name: config.types.get(name) or ("number" if name in number else "text") for name in features}


def _like(cells: pa.Array, missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which cells look like numbers, (N,)."""
    if plain_numbers(cells, missing) is not None:
        return ~missing
    return _mask(pc.match_substring_regex(cells, f"{LIKE_A_NUMBER}|^{SPECIAL}$")) & ~missing


def _feature(
    cells: pa.Array, kind: str, config: IngestConfig, faults: npt.NDArray[np.object_]
) -> pa.ChunkedArray | pa.Array:
    """A column in its type; notes in ``faults`` which rows hold a cell that it cannot hold."""
    missing = _missing(cells, config)
    if kind == "time":
        return _times(cells, missing, config.latest, faults)
    if kind == "text":
        return pc.if_else(pa.array(missing), None, cells) if missing.any() else cells
    values, written = plain_numbers(cells, missing), ~missing
    if values is None:
        written = _mask(pc.match_substring_regex(cells, f"^(?:{NUMBER}|{SPECIAL})$")) & ~missing
        values = np.zeros(len(cells))
        texts = cells.filter(pa.array(written)).to_pylist()
        values[written] = np.fromiter(map(float, texts), dtype=np.float64, count=len(texts))
        wrong = ~written & ~missing
        faults[wrong & (faults == "")] = "number_format"
    doubtful = written & (~np.isfinite(values) | (np.abs(values) >= 2**53))
    zero = np.flatnonzero(written & (values == 0))
    doubtful[zero[_mask(pc.match_substring_regex(cells.take(pa.array(zero)), NONZERO))]] = True
    for place in np.flatnonzero(doubtful):
        faults[place] = faults[place] or _inexact(cells[int(place)].as_py(), float(values[place]))
    return pa.array(values, mask=missing)


def plain_numbers(cells: pa.Array, missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64] | None:
    """The values of a column of plainly written numbers, 0 where missing, (N,); None where it is not plainly one.

    A cell of digits, a sign, a point and an exponent that Arrow reads whole as a float, and that begins with no idle
    zero, is a number by the rule above, and the same float: both readers round to the nearest.
    """
    filled = pc.if_else(pa.array(missing), "0", cells) if missing.any() else cells
    _, starts, data = filled.buffers()
    if not len(filled) or data is None or not data.size:
        return None
    offsets = np.frombuffer(starts, np.int32)[filled.offset : filled.offset + len(filled) + 1]
    signs = np.frombuffer(data, np.uint8)
    first = offsets[:-1] + np.isin(signs[np.minimum(offsets[:-1], len(signs) - 1)], (ord("-"), ord("+")))
    second = np.minimum(first + 1, len(signs) - 1)
    idle = (signs[np.minimum(first, len(signs) - 1)] == ord("0")) & (first + 1 < offsets[1:]) & DIGIT[signs[second]]
    if not PLAIN[signs[offsets[0] : offsets[-1]]].all() or idle.any():
        return None
    try:
        return np.asarray(pc.cast(filled, pa.float64()).to_numpy(), dtype=np.float64)
    except pa.ArrowInvalid:
        return None


def _missing(cells: pa.Array, config: IngestConfig) -> npt.NDArray[np.bool_]:
    return _mask(pc.is_in(cells, pa.array(config.missing, pa.string())))


def _mask(array: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.bool_)


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
