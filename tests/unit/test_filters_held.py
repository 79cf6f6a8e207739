"""Features that lie in a file: every number of the filter is that of features in memory, to the last bit."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_filters_step import QUICK, call, digits, rows

from assay.config.filters import FilterConfig
from assay.data import held as holding
from assay.data.dataset import Dataset, features, labels
from assay.data.divide import divide
from assay.data.finding_list import FindingList
from assay.data.findings import Finding, findings_bytes, split
from assay.data.held import HeldRows, held, hold, row_blocks
from assay.data.stream import DatasetReader
from assay.filters._proxy import Scaled, Scaling
from assay.filters.examine import examine
from assay.filters.features import views
from assay.filters.scoring import members

EVERY = FilterConfig(
    permutations=199, epochs=2, detectors={**FilterConfig().detectors, "strip": {}, "quantum_entropy": {}}
)
SHAPES = st.one_of(
    st.tuples(st.integers(2, 400), st.integers(1, 40)),
    st.tuples(st.integers(2, 40), st.integers(1, 3), st.integers(1, 30), st.integers(1, 30)),
    st.tuples(st.integers(2, 5), st.integers(1, 3), st.integers(85, 105), st.integers(85, 105)),
)


def in_file(folder: Path, x: np.ndarray) -> HeldRows:
    return hold(folder / "x", [x])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=SHAPES, seed=st.integers(0, 2**31), offset=st.sampled_from([0.0, 100.0]))
def test_scaling_is_by_mean_and_spread_and_the_same_for_what_is_held(
    tmp_path: Path, shape: tuple[int, ...], seed: int, offset: float
) -> None:
    """Reference: numpy of all at once; for tables and images, of one channel or several, in blocks of 2 kB."""
    x = (np.random.default_rng(seed).standard_normal(shape) ** 3 + offset).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holding, "BLOCK_BYTES", 2048)
        found, here = Scaling.of(in_file(tmp_path, x)), Scaling.of(x)
    axes = (0, 2, 3) if x.ndim == 4 else (0,)
    assert (found.mean.tobytes(), found.spread.tobytes()) == (here.mean.tobytes(), here.spread.tobytes())
    assert found.mean == pytest.approx(x.mean(axis=axes, keepdims=True, dtype=np.float64), rel=1e-6, abs=1e-6)
    assert found.spread == pytest.approx(x.std(axis=axes, keepdims=True, dtype=np.float64), rel=1e-6)


def test_held_rows_are_indexed_as_an_array_is(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((50, 2, 3, 3)).astype(np.float32)
    found = in_file(tmp_path, x)
    mask = np.arange(50) % 3 == 0
    for at in (slice(3, 9), slice(48, 99), np.array([4, 4, 0]), [7, 1], mask, np.empty(0, np.int64)):
        assert np.array_equal(found[at], x[at])
    for at in ([50], [-1]):
        with pytest.raises(IndexError, match="of 50"):
            found[at]
    assert np.array_equal(found.flat(7, 31), x.ravel()[7:31])
    assert (len(found), found.ndim, found.shape) == (50, 4, x.shape)
    assert [rows.indices(50)[:2] for rows in row_blocks(x.shape)] == [(0, 50)]
    assert len(hold(tmp_path / "none", [x[:0]])[:]) == 0
    found.path.write_bytes(x.tobytes()[:-1])
    assert np.array_equal(found[:49], x[:49])
    with pytest.raises(OSError, match="cut short"):
        found[45:]


def test_scaled_rows_are_those_of_all_at_once(tmp_path: Path) -> None:
    """A choice of rows from two parts, by slice and by number, in any order."""
    x = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    more, scaling = x[:7] * 9, Scaling.of(x)
    whole = scaling(np.concatenate([x, more]))
    found = Scaled(scaling, (in_file(tmp_path, x), more))
    chosen = np.random.default_rng(1).permutation(47)[:30]
    assert (found[:], found[np.array([46, 0, 39, 40])]) == (pytest.approx(whole), pytest.approx(whole[[46, 0, 39, 40]]))
    assert np.array_equal(found.only(chosen)[5:20], whole[chosen[5:20]])
    assert found.only(chosen).shape == (30, 5)


def dataset_of(kind: str) -> tuple[Dataset, Dataset | None]:
    if kind == "table":
        from test_filters_step import make

        return make(*rows(n=240), classes=3), None
    given, trusted, _ = digits(n=600, planted=30)
    return given, trusted if kind == "trusted images" else None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["table", "images", "trusted images"])
def test_what_is_held_is_examined_as_what_is_in_memory(tmp_path: Path, kind: str) -> None:
    """All detectors, in parts and blocks far smaller than the data: the same scores, views and decision, to the bit."""
    whole, trusted = dataset_of(kind)
    whole.save(tmp_path / "in")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holding, "BLOCK_BYTES", 2048)
        patch.setattr("assay.data.layout.PART_ROWS", 64)
        keys, x = held(DatasetReader(tmp_path / "in"), tmp_path)
        assert x[:].tobytes() == features(whole).tobytes()
        found = examine(keys, x, EVERY, trusted, members(EVERY.detectors))
    expected = examine(whole, features(whole), EVERY, trusted, members(EVERY.detectors))
    assert found.silent == expected.silent
    for name, scores in expected.scores.items():
        assert found.scores[name].records.tobytes() == scores.records.tobytes(), name
        assert found.scores[name].trusted.tobytes() == scores.trusted.tobytes(), name
    some = np.flatnonzero(labels(whole) == 1)
    for one, other in zip(views(found.spaces), views(expected.spaces), strict=True):
        assert one.records[some].tobytes() == other.records[some].tobytes()
        assert one.trusted.tobytes() == other.trusted.tobytes()
    assert found.decision.classes == expected.decision.classes
    assert np.array_equal(found.decision.by, expected.decision.by)


@pytest.mark.slow
def test_the_parts_are_those_of_a_dataset_in_memory(tmp_path: Path) -> None:
    """The step's decision on poisoned digits, divided in memory: equal digests, findings and files."""
    whole, trusted, _ = digits()
    document = call(tmp_path, whole, trusted)
    built = members(QUICK.detectors)
    examined = examine(whole, features(whole), QUICK, trusted, built)
    decision, ids = examined.decision, whole.record_ids
    findings = [
        Finding(ids[at], name, float(examined.scores[name].records[at]), built[name].reason, "quarantine")
        for at in np.flatnonzero(decision.removed)
        for name in [decision.detectors[decision.by[at]]]
    ]
    parameters = DatasetReader(tmp_path / "kept").manifest.history.parameters
    parts = split(whole, findings, step="filter_poison", parameters=parameters)
    assert len(findings) > 20
    assert document["dataset"]["digest"] == parts.kept.manifest.digest
    assert document["quarantine"]["digest"] == parts.quarantined.manifest.digest
    assert (tmp_path / "quarantine" / "findings.parquet").read_bytes() == findings_bytes(parts.findings)
    parts.kept.save(tmp_path / "as-before")
    assert (tmp_path / "kept/data/part-00000.parquet").read_bytes() == next(
        (tmp_path / "as-before/data").iterdir()
    ).read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".assay-tmp")], "nothing is left beside"


def test_a_finding_about_no_record_of_the_dataset_divides_nothing(tmp_path: Path) -> None:
    whole, _ = dataset_of("table")
    whole.save(tmp_path / "in")
    places = {name: tmp_path / name for name in ("kept", "quarantine")}
    findings = FindingList([Finding("a/b0:999", "d", 1.0, "r", "quarantine")])
    with pytest.raises(Exception, match="1 records to remove, 0 there"), ExitStack() as files:
        divide(DatasetReader(tmp_path / "in"), findings, step="s", parameters={}, places=places, files=files)
    assert not any(path.exists() for path in places.values())


@pytest.mark.slow
def test_scores_by_row_groups_are_the_bytes_of_a_file_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of as many row groups as a file written at once has: one."""
    import pyarrow.parquet as pq

    given, _ = dataset_of("table")
    call(tmp_path, given)
    table = pq.read_table(tmp_path / "scores")
    once = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(None), once, compression="zstd")
    assert (tmp_path / "scores").read_bytes() == once.getvalue().to_pybytes()
