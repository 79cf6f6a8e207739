"""A suite on more records than one frame should hold: the same verdicts, chunk by chunk.

Most expectations judge a row by itself, and a chunk's failing records are those of the whole. Uniqueness is counted
over all chunks: 64-bit hashes first, then, in a second pass, the rows that share one, by their values. The row count is
added up. An expectation about the distribution of a whole column cannot be cut up, and is an error here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from assay.errors import UnfitInput
from assay.sanitize.expectations import ROW_COUNT, Outcome, quiet, require_outcome, validate
from assay.sanitize.scalars import RECORD_ID

UNIQUE = {"expect_column_values_to_be_unique": "column", "expect_compound_columns_to_be_unique": "column_list"}
Frames = Callable[[], Iterator[pd.DataFrame]]

__all__ = ["Frames", "in_chunks", "validate_chunks"]


def validate_chunks(
    frames: Frames, suite: Sequence[Mapping[str, Any]], distinct: Collection[str] = ()
) -> list[Outcome]:
    """Evaluate a suite over frames that together are the records.

    Args:
        frames: gives the frames anew each time it is called; none is empty.
        suite: as for `validate`.
        distinct: columns known to hold every value once, which nobody needs to remember.

    Raises:
        UnfitInput: as `validate` does, and for an expectation about the distribution of a whole column.
    """
    unique = {at: _columns(given) for at, given in enumerate(suite) if given.get("type") in UNIQUE}
    counted = {at for at, given in enumerate(suite) if given.get("type") == ROW_COUNT}
    rest = [at for at in range(len(suite)) if at not in unique and at not in counted]
    parts: dict[int, list[Outcome]] = {at: [] for at in rest}
    known = {at for at, columns in unique.items() if not set(columns).isdisjoint(distinct)}
    hashes = {at: _Hashes(columns, _ignored(suite[at])) for at, columns in unique.items() if at not in known}
    rows = 0
    for frame in frames():
        rows += len(frame)
        for at, outcome in zip(
            rest, validate(frame, [suite[at] for at in rest], part=True) if rest else (), strict=True
        ):
            parts[at].append(outcome)
        for seen in hashes.values():
            seen.add(frame)
    found = {at: _joined(outcomes) for at, outcomes in parts.items()}
    found |= {at: _unique(suite[at], seen, frames) for at, seen in hashes.items()}
    found |= {at: Outcome(str(suite[at]["type"]), dict(suite[at].get("kwargs", {})), rows, (), True) for at in known}
    found |= {at: _row_count(suite[at], rows) for at in counted}
    return [require_outcome(found[at]) for at in range(len(suite))]


def in_chunks(suite: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a suite can be evaluated in chunks: nothing in it is about the distribution of a whole column."""
    with quiet():
        from great_expectations.expectations.expectation import (
            ColumnMapExpectation,
            ColumnPairMapExpectation,
            MulticolumnMapExpectation,
        )
        from great_expectations.expectations.registry import (
            get_expectation_impl,
            list_registered_expectation_implementations,
        )

        known = list_registered_expectation_implementations()
        kinds = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
        names = [str(given.get("type", "")) for given in suite]
        return all(
            name == ROW_COUNT or name not in known or issubclass(get_expectation_impl(name), kinds) for name in names
        )


@dataclass
class _Hashes:
    """Of the rows of some columns, over all chunks, and which of them count.

    Fields:
        columns: names.
        ignored: rows that do not count: ``all_values_are_missing``, ``any_value_is_missing`` or ``never``.
    """

    columns: list[str]
    ignored: str = "all_values_are_missing"
    parts: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    present: list[npt.NDArray[np.bool_]] = field(default_factory=list)

    def add(self, frame: pd.DataFrame) -> None:
        missing = [name for name in self.columns if name not in frame.columns]
        if missing:
            raise UnfitInput("expectation of uniqueness", f"a column {missing[0]!r}", "a column that is there")
        there = frame[self.columns].notna()
        self.parts.append(_hashes(frame[self.columns]))
        every = np.ones(len(frame), np.bool_)
        counts = {"all_values_are_missing": there.any(axis=1), "any_value_is_missing": there.all(axis=1)}
        self.present.append(np.asarray(counts.get(self.ignored, every), dtype=np.bool_))

    def suspects(self) -> list[npt.NDArray[np.bool_]]:
        """Which rows of every chunk share a hash with another."""
        ranked = np.concatenate([part[here] for part, here in zip(self.parts, self.present, strict=True)])
        ranked.sort()
        shared = np.unique(ranked[1:][ranked[1:] == ranked[:-1]])
        return [np.isin(part, shared) & here for part, here in zip(self.parts, self.present, strict=True)]


def _hashes(values: pd.DataFrame) -> npt.NDArray[np.uint64]:
    """Of every row; numbers as float64, for a chunk with a missing value holds its integers so."""
    alike = values.astype({name: np.float64 for name in values.columns if values[name].dtype.kind in "iuf"})
    return np.asarray(pd.util.hash_pandas_object(alike, index=False).to_numpy(), dtype=np.uint64)


def _unique(given: Mapping[str, Any], hashes: _Hashes, frames: Frames) -> Outcome:
    """The rows whose values another row has too."""
    suspects, failing = hashes.suspects(), pd.Series([], dtype=object)
    if any(suspect.any() for suspect in suspects):
        kept = [
            frame.loc[suspect, list(dict.fromkeys([RECORD_ID, *hashes.columns]))]
            for frame, suspect in zip(frames(), suspects, strict=True)
        ]
        shared = pd.concat(kept, ignore_index=True)
        failing = shared.loc[shared.duplicated(hashes.columns, keep=False), RECORD_ID]
    evaluated = int(sum(here.sum() for here in hashes.present))
    names = tuple(sorted(set(map(str, failing))))
    return Outcome(str(given["type"]), dict(given.get("kwargs", {})), evaluated, names, not names)


def _columns(given: Mapping[str, Any]) -> list[str]:
    value = dict(given.get("kwargs", {})).get(UNIQUE[given["type"]])
    return [value] if isinstance(value, str) else list(value or ())


def _ignored(given: Mapping[str, Any]) -> str:
    return str(dict(given.get("kwargs", {})).get("ignore_row_if", "all_values_are_missing"))


def _row_count(given: Mapping[str, Any], rows: int) -> Outcome:
    kwargs = dict(given.get("kwargs", {}))
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if (low is not None and rows < low) or (high is not None and rows > high):
        raise UnfitInput(f"expectation {ROW_COUNT} {kwargs}", str(rows), "what the expectation says of the whole table")
    return Outcome(ROW_COUNT, kwargs, 0, (), True)


def _joined(outcomes: Sequence[Outcome]) -> Outcome:
    first = outcomes[0]
    if not first.rows:
        raise UnfitInput(
            f"expectation {first.type} {first.kwargs}",
            "one about the distribution of a whole column, on a table in chunks",
            "expectations about rows, uniqueness or the row count",
        )
    failing = tuple(sorted({name for outcome in outcomes for name in outcome.failing}))
    evaluated, success = sum(it.evaluated for it in outcomes), all(it.success for it in outcomes)
    return Outcome(first.type, first.kwargs, evaluated, failing, success)
