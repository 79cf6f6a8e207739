"""Validation in chunks: the verdicts of the whole, uniqueness across chunks included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.errors import UnfitInput
from assay.sanitize import chunks, step
from assay.sanitize.chunks import validate_chunks
from assay.sanitize.expectations import validate

SUITE: list[dict[str, Any]] = [
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "f", "min_value": -2, "max_value": 2}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "f", "max_value": 1, "mostly": 0.5}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "s", "value_set": ["a", "b"]}},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "s"}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "u"}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "record_id"}},
    {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["u", "s"]}},
    {"type": "expect_column_pair_values_a_to_be_greater_than_b", "kwargs": {"column_A": "g", "column_B": "u"}},
    {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 10}},
]


def frame(seed: int, rows: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    columns = {
        "record_id": [f"v/b:{row}" for row in range(rows)],
        "f": rng.normal(size=rows),
        "g": rng.integers(0, 400, rows),
        "u": rng.integers(0, 300, rows),
        "s": np.array(["a", "b", "c", None], dtype=object)[rng.integers(0, 4, rows)],
    }
    made = pd.DataFrame(columns)
    made.loc[:40, "s"] = None  # whole chunks without a value
    return made


def parts(whole: pd.DataFrame, size: int) -> Any:
    def frames() -> Iterator[pd.DataFrame]:
        for first in range(0, len(whole), size):
            yield whole.iloc[first : first + size].reset_index(drop=True)

    return frames


@pytest.mark.parametrize("size", [37])
def test_chunks_say_what_the_whole_says(size: int) -> None:
    whole = frame(size)
    expected = validate(whole, SUITE)
    got = validate_chunks(parts(whole, size), SUITE)
    assert [it.type for it in got] == [it.type for it in expected]
    for mine, theirs in zip(got, expected, strict=True):
        assert (mine.failing, mine.kwargs) == (theirs.failing, theirs.kwargs), mine.type
        assert mine.evaluated == theirs.evaluated or not mine.rows or "count" in mine.type or "compound" in mine.type
    assert sum(len(it.failing) for it in got) > 20


@pytest.mark.slow
def test_uniqueness_holds_across_chunks_even_if_every_hash_collides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        chunks.pd.util, "hash_pandas_object", lambda values, index: pd.Series(np.zeros(len(values), np.uint64))
    )
    whole = frame(3)
    suite = [it for it in SUITE if "unique" in it["type"]]
    expected = [outcome.failing for outcome in validate(whole, suite)]
    assert [outcome.failing for outcome in validate_chunks(parts(whole, 25), suite)] == expected
    assert expected[0] != ()


@pytest.mark.parametrize(
    ("expectation", "words"),
    [
        ({"type": "expect_column_mean_to_be_between", "kwargs": {"column": "f", "max_value": 9}}, "whole column"),
        ({"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 121}}, "whole table"),
        ({"type": "expect_table_row_count_to_be_between", "kwargs": {"max_value": 119}}, "whole table"),
        ({"type": "expect_column_values_to_be_unique", "kwargs": {"column": "nowhere"}}, "nowhere"),
        pytest.param(
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": "empty", "max_value": 1}},
            "no value",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_cannot_be_said_in_chunks_is_an_error(expectation: dict[str, Any], words: str) -> None:
    whole = frame(0).assign(empty=np.nan)
    with pytest.raises(UnfitInput, match=words):
        validate_chunks(parts(whole, 25), [expectation])


@pytest.mark.slow
def test_the_step_divides_a_large_dataset_as_it_would_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_sanitize_detect import dataset, run

    suite = [{"type": "expect_column_values_to_be_between", "kwargs": {"column": "f0", "min_value": -1.5}}]
    mean = {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "f0", "max_value": 9}}
    assert chunks.in_chunks(SUITE)
    assert not chunks.in_chunks([*SUITE, mean])
    given = dataset(90)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = run(tmp_path / "a", given, suite=suite)
    monkeypatch.setattr(step, "CHUNK_ROWS", 20)
    two = run(tmp_path / "b", given, suite=suite)
    assert one["dataset"]["digest"] == two["dataset"]["digest"]
    assert one["reasons"] == two["reasons"]
    assert one["quarantined"] > 0
