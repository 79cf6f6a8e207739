"""Sanitize table by table: findings, parts and digests of a dataset in one piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from test_sanitize_step import between, dataset, run

from assay import canonical
from assay.config.sanitize import SanitizeConfig
from assay.data import layout
from assay.data.dataset import Dataset
from assay.data.findings import read_findings
from assay.data.mapped import mapped
from assay.errors import AssayError, UnfitInput
from assay.sanitize import detect as detecting
from assay.sanitize import step
from assay.sanitize.checks import Checks

ROWS = 500


def messy() -> Dataset:
    """Missing and infinite values, formulas, copies far apart, a constant column and weights."""
    rng = np.random.default_rng(5)
    f = rng.normal(size=ROWS)
    f[[7, 400]] = np.nan
    f[450] = np.inf
    g = rng.integers(0, 10**6, ROWS)
    text = [["a", "b", "=1+1", None][k % 97 % 4] if k % 97 < 4 else f"t{k}" for k in range(ROWS)]
    for copy, of in ((130, 3), (300, 3), (499, 250)):
        f[copy], g[copy], text[copy] = f[of], g[of], text[of]
    label = np.arange(ROWS) % 2
    label[[130, 300]], label[499] = label[3], label[250]
    columns: dict[str, Any] = {"f": f, "g": g, "t": pa.array(text), "c": np.ones(ROWS), "label": label}
    return dataset(ROWS, **columns, weight=rng.choice([0.5, 1.0, np.nan], ROWS, p=[0.5, 0.49, 0.01]))


def test_what_is_mapped_is_the_records_of_all_tables_and_leaves_nothing(tmp_path: Path) -> None:
    """Tables name their batches differently, as the parts of a dataset do."""
    first, second = dataset(30, name="b"), dataset(20, name="a")
    tables = [first.table.slice(0, 10), first.table.slice(10), second.table, second.table.slice(0, 0)]
    with mapped(tables, first.manifest, tmp_path / "kept") as whole:
        assert len(whole) == 50
        assert whole.record_ids == first.record_ids + second.record_ids
        assert whole.table.drop_columns("batch").equals(pa.concat_tables(tables).drop_columns("batch"))
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("trusted", [True, False])
def test_detectors_see_many_parts_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool) -> None:
    rng, found = np.random.default_rng(0), {}
    f = np.where(np.arange(ROWS) % 50 == 3, 40.0, rng.normal(size=ROWS))
    clean = dataset(200, name="t", f=rng.normal(size=200), g=rng.normal(size=200))
    whole = dataset(ROWS, f=f, g=rng.normal(size=ROWS))
    for name, rows, piece in (("one", layout.PART_ROWS, detecting.CHUNK), ("many", 64, 50)):
        monkeypatch.setattr(layout, "PART_ROWS", rows)
        monkeypatch.setattr(detecting, "CHUNK", piece)
        (tmp_path / name).mkdir()
        detectors = {"robust_z": {"rate": 0.02}, "kmeans": {"rate": 0.02}}
        run(whole, tmp_path / name, calibration=clean if trusted else None, detectors=detectors)
        found[name] = (tmp_path / name / "quarantine" / "findings.parquet").read_bytes()
    assert found["one"] == found["many"]
    assert len(read_findings(found["one"])) >= 10


@pytest.mark.slow
def test_many_parts_are_divided_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibration = dataset(20, name="t", **{name: messy().table[name].slice(0, 20) for name in ("f", "g", "t", "c")})
    calibration = calibration.take(np.arange(1, 20), calibration.manifest.history)
    suite = [between("g", 0, 900_000)]
    found = {}
    for name, rows in (("one", layout.PART_ROWS), ("many", 64)):
        monkeypatch.setattr(layout, "PART_ROWS", rows)
        (tmp_path / name).mkdir()
        found[name] = run(messy(), tmp_path / name, calibration=weighted(calibration), suite=suite, page=True)
    assert len(layout.parts_of(tmp_path / "many" / "kept")) > 5
    for part in ("dataset", "quarantine"):
        one, many = (found[name].pop(part) for name in ("one", "many"))
        assert one | {"path": ""} == many | {"path": ""}
    assert found["one"] == found["many"]
    reasons = {"missing_value", "not_finite", "unfit_weight", "duplicate_record"}
    assert reasons < set(found["one"]["reasons"])
    assert set(found["one"]["flagged"]) == {"formula_cell", "calibration_record"}
    assert found["one"]["constant"] == ["c"]
    for name in ("quarantine/findings.parquet", "page.html", "kept/manifest.json"):
        assert canonical.file_digest(tmp_path / "one" / name) == canonical.file_digest(tmp_path / "many" / name)


def weighted(given: Dataset) -> Dataset:
    """The same records with weights."""
    table = given.table.append_column("weight", pa.array(np.ones(len(given))))
    return Dataset.make(table, given.manifest.content.classes, given.manifest.history)


def test_records_that_are_equal_are_found_far_apart_and_if_every_hash_collides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reference: comparing the cells of every pair."""
    from assay.data import content

    whole = messy().table
    cells = [tuple(map(repr, row[2:-1])) for row in zip(*whole.to_pydict().values(), strict=True)]
    expected = [k for k, cell in enumerate(cells) if cell in cells[:k]]
    for collide in (False, True):
        if collide:
            monkeypatch.setattr(content, "content_hashes", lambda rows: np.zeros(rows.num_rows, np.uint64))
        checks = Checks(SanitizeConfig(), None)
        tables = [whole.slice(first, 37) for first in range(0, ROWS, 37)]
        for table in tables:
            checks.add(table)
        checks.settle(lambda tables=tables: iter(tables))  # type: ignore[misc]
        twice = [it.record_id for it in checks.findings.objects() if it.reason == "duplicate_record"]
        ids = messy().record_ids
        assert sorted(twice) == sorted(ids[k] for k in expected)
    assert len(expected) == 3


def test_a_cap_that_is_exceeded_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "PART_ROWS", 64)
    with pytest.raises(AssayError, match="needs review"):
        run(messy(), tmp_path, suite=[between("g", 0, 200_000)], removal_cap=0.3)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".assay")) == ["in"]


def test_a_suite_that_cannot_be_cut_is_refused_on_a_large_table_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "CHUNK_ROWS", 100)
    monkeypatch.setattr(step, "WHOLE_ROWS", 300)
    mean = {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "g", "max_value": 10**6}}
    with pytest.raises(UnfitInput, match=r"expect_column_mean_to_be_between.*at most 300 records"):
        run(messy(), tmp_path, suite=[between("g", 0, 10**6), mean])
