"""Findings as columns: sorted, tallied and written as the list of objects would be."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.finding_list import FindingList, Marked
from assay.data.findings import REMOVING, Finding, findings_bytes, tally
from assay.errors import UnfitInput

FINDINGS = st.lists(
    st.builds(
        Finding,
        st.builds(lambda s, b, r: f"{s}/{b}:{r}", st.sampled_from("vw"), st.sampled_from("ab"), st.integers(0, 12)),
        st.sampled_from(["knn", "reader"]),
        st.sampled_from([0.0, 0.5, 1.0, 1e300]),
        st.sampled_from(["far", "field_count"]),
        st.sampled_from(["flag", "quarantine", "reject", "downweight"]),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(listed=FINDINGS)
def test_columns_say_what_objects_say(listed: list[Finding]) -> None:
    """Reference: `findings_bytes` and `tally` of the objects, each once."""
    gathered = FindingList(listed[: len(listed) // 2])
    for it in listed[len(listed) // 2 :]:
        gathered.add([it.record_id], it.detector, it.score, it.reason, it.action)
    once = sorted(set(listed))
    assert gathered.objects() == once
    assert len(gathered) == len(once)
    assert gathered.tally() == tally(once)
    removed = sorted({it.record_id for it in once if it.action in REMOVING})
    assert gathered.about(*REMOVING).to_pylist() == removed
    assert gathered.counts("flag").total() == sum(it.action == "flag" for it in once)
    assert gathered.bytes() == findings_bytes(once)


@given(ids=st.sets(st.tuples(st.sampled_from(["v/a", "v/a-b", "w/b"]), st.integers(0, 10))), seed=st.integers(0, 99))
def test_marked_records_are_found_in_any_table(ids: set[tuple[str, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch = np.array(["v/a", "v/a-b", "w/b", "w/c"])[rng.integers(0, 4, 30)]
    row = rng.integers(0, 12, 30)
    marked = Marked(pa.array([f"{name}:{at}" for name, at in ids], pa.string()))
    table = pa.table({"batch": pa.array(batch).dictionary_encode(), "row": row})
    expected = [(name, at) in ids for name, at in zip(batch.tolist(), row.tolist(), strict=True)]
    assert marked.of(table).tolist() == expected
    assert len(marked) == len(ids)


@pytest.mark.parametrize("text", ["v/a", "v/a:", ":1", "v/a:-1", "v/a:1x"])
def test_what_is_no_record_id_marks_nothing_in_silence(text: str) -> None:
    with pytest.raises(UnfitInput, match="record id"):
        Marked(pa.array([text]))
