"""Records found by content: as by comparing every pair, whatever the hashes do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data import content
from assay.data.content import ContentIndex, content_hashes, repeated

CELLS = st.tuples(
    st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf"), 5e-324]),
    st.none() | st.integers(-2, 2),
    st.none() | st.text("aé\0", max_size=2),
)


def table(rows: list[tuple[Any, Any, Any]]) -> pa.Table:
    images = np.array([[[(row[1] or 0) % 5, len(row[2] or "")]] for row in rows], np.uint8).reshape(-1, 1, 2)
    made = {
        "f": pa.array([row[0] for row in rows], pa.float64()),
        "i": pa.array([row[1] for row in rows], pa.int64()),
        "t": pa.array([row[2] for row in rows], pa.string()),
    }
    return pa.table(made | ({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(images)} if rows else {}))


def key(row: tuple[Any, Any, Any]) -> tuple[bytes, Any, Any]:
    return np.float64(row[0]).tobytes(), row[1], row[2]


@pytest.mark.parametrize("hashing", ["as it is", "all collide"])
@settings(max_examples=150, deadline=None)
@given(mine=st.lists(CELLS, min_size=1, max_size=12), other=st.lists(CELLS, min_size=1, max_size=12))
def test_index_and_repeats_are_those_of_comparing_every_pair(hashing: str, mine: list[Any], other: list[Any]) -> None:
    """Reference: Python's comparison of cells, floats by their bits. The second run gives every record one hash."""
    with pytest.MonkeyPatch.context() as patch:
        if hashing != "as it is":
            patch.setattr(content, "content_hashes", lambda rows: np.zeros(rows.num_rows, np.uint64))
        keys = [key(row) for row in mine]
        first = [keys.index(key(row)) if key(row) in keys else -1 for row in other]
        assert ContentIndex.of(table(mine)).find(table(other)).tolist() == first
        assert repeated(table(mine)).tolist() == [k in keys[:at] for at, k in enumerate(keys)]


def test_hashes_of_a_hundred_thousand_close_records_do_not_collide() -> None:
    """Small integers and short floats, side by side, in one and in two columns; 64 bits collide once in 10**9."""
    count = np.arange(100_000)
    for rows in (
        pa.table({"a": count}),
        pa.table({"a": count // 1000, "b": count % 1000}),
        pa.table({"a": (count // 1000) / 8, "b": (count % 1000) / 8}),
        pa.table({"t": [f"{k}" for k in count]}),
        pa.table({"s": [f"{k // 1000}" for k in count], "t": [f"{k % 1000}" for k in count]}),
    ):
        assert len(np.unique(content_hashes(rows))) == 100_000


def test_no_rows_find_nothing() -> None:
    rows = pa.table({"a": pa.array([], pa.int64()), "t": pa.array([], pa.string())})
    assert repeated(rows).tolist() == []
    assert ContentIndex.of(rows).find(rows).tolist() == []
