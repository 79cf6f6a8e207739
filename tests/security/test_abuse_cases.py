"""The abuse cases of the data supply chain, one named test each, and where the tests of the others stand.

T1 too few rows       T2 not finite          T3 shifted columns   T4 twins of names    T5 bombs
T6 image bombs        T7 formula cells       T8 degenerate data   T9 weights           T10 times
T13 caps              T29 namespaces         R10 broken answers   R11 replaced objects R12 deleted objects
"""

from __future__ import annotations

import ast
import gzip
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.cli.main import run
from assay.config.base import parse
from assay.config.ingest import IngestConfig, SourceConfig
from assay.config.sanitize import SanitizeConfig
from assay.data.dataset import Dataset
from assay.data.manifest import BatchShare, History
from assay.errors import AssayError, UnfitInput
from assay.ingest.step import ingest
from assay.sanitize.step import sanitize

TESTS = Path(__file__).parents[1]
ELSEWHERE = {
    "T3": "unit/test_ingest_csv.py::test_any_changed_byte_anywhere_moves_no_value_of_another_line",
    "T4": "unit/test_ingest_csv.py::test_a_twin_of_the_label_never_stands_beside_it",
    "T5": "security/test_hostile_files.py::test_a_gzip_bomb_ends_in_a_clear_error_within_its_memory",
    "T6": "unit/test_ingest_images.py::test_an_image_bomb_is_refused_by_its_header",
    "T8 filter": "contract/test_filters_contract.py::test_constant_features_give_finite_scores",
    "T9 train": "unit/test_train_losses.py::test_a_weight_that_is_negative_or_not_finite_or_huge_is_refused",
    "T10": "unit/test_ingest_csv.py::test_times_are_instants_in_utc_and_nothing_is_guessed_about_a_zone",
    "T13": "unit/test_sanitize_step.py::test_a_source_or_class_that_would_lose_more_than_its_cap_needs_review",
    "T29": "security/test_sources.py::test_a_place_that_only_looks_like_it_is_not",
    "T29 identities": "pipelines/test_manifests.py::test_every_identity_may_do_the_same_little",
    "R10": "faults/test_ledger_object_store.py::test_a_broken_answer_is_never_a_file",
    "R11": "faults/test_ledger_object_store.py::"
    "test_r11_an_object_overwritten_between_two_runs_is_a_conflict_and_a_pinned_version_is_the_first",
    "R12": "faults/test_ledger_object_store.py::test_r12_an_object_deleted_or_without_that_version_is_an_input_error",
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_the_table_names_tests_that_are_there(case: str) -> None:
    file, _, name = ELSEWHERE[case].partition("::")
    defined = {
        node.name for node in ast.walk(ast.parse((TESTS / file).read_text())) if isinstance(node, ast.FunctionDef)
    }
    assert name in defined


def take(folder: Path, out: str = "o", config: dict[str, Any] | None = None, **files: str) -> dict[str, Any]:
    sources = []
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
        trust = "trusted" if name.startswith("own") else "standard"
        sources.append(SourceConfig(name=name, uri=str(folder / f"{name}.csv"), trust=trust))
    split = any(source.trust == "trusted" for source in sources)
    given: dict[str, Any] = {name: folder / out / name for name in ("dataset", "quarantine")}
    given |= {name: folder / out / name if split else None for name in ("calibration", "holdout")}
    return ingest(sources, parse(IngestConfig, config or {}, "ingest"), **given)


def clean(dataset: Path, out: Path, **config: Any) -> dict[str, Any]:
    return sanitize(dataset, parse(SanitizeConfig, config, "s"), kept=out / "kept", quarantine=out / "left")


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_t1_too_few_rows_end_in_an_error_and_no_output(tmp_path: Path, rows: int) -> None:
    text = "x,label\n" + "".join(f"{k},{'ab'[k % 2]}\n" for k in range(rows))
    if rows < 2:
        with pytest.raises(UnfitInput):
            take(tmp_path, v=text)
        assert not (tmp_path / "o").exists()
        return
    take(tmp_path, v=text)
    with pytest.raises(UnfitInput, match="at least 3"):
        clean(tmp_path / "o" / "dataset", tmp_path / "s", least_records=3)
    assert not (tmp_path / "s").exists()


WILD = st.sampled_from([np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324]) | st.floats(-1e3, 1e3)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(cells=st.lists(WILD, min_size=8, max_size=30))
def test_t2_nothing_that_is_not_finite_comes_out_and_no_record_is_lost(
    tmp_path_factory: pytest.TempPathFactory, cells: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("t2")
    count = len(cells)
    table = pa.table({"batch": ["v/b"] * count, "row": np.arange(count), "f": cells, "label": np.arange(count) % 2})
    made = Dataset.make(table, ("a", "b"), History("ingest", "kept", (BatchShare("v", "b", "0" * 64, 0),)))
    made.save(folder / "in")
    try:
        clean(folder / "in", folder / "s", duplicates="keep", removal_cap=0.9)
    except (UnfitInput, AssayError):
        assert not (folder / "s").exists()
        return
    kept, left = (Dataset.load(folder / "s" / name) for name in ("kept", "left"))
    assert np.isfinite(kept.table["f"].to_numpy()).all()
    assert sorted(kept.record_ids + left.record_ids) == sorted(made.record_ids)
    assert len(left) == int((~np.isfinite(cells)).sum())


def test_t3_a_comma_too_many_never_shifts_a_column(tmp_path: Path) -> None:
    """`pandas.read_csv` reads a as [2, 2] here, and says nothing."""
    with pytest.raises(UnfitInput, match=r"line 2: got field_count"):
        take(tmp_path, v="a,label\n1,2,3\n1,2\n")
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_t5_a_huge_cell_and_a_zip_bomb_end_within_their_memory(tmp_path: Path) -> None:
    """One cell of 300 MB in less than a megabyte of gzip, within 1.5 GiB of address space and a limit of 64 MB."""
    with gzip.open(tmp_path / "v.csv.gz", "wb", compresslevel=1) as stream:
        stream.write(b"x,label\n")
        for _ in range(300):
            stream.write(b"a" * 10**6)
    (tmp_path / "i.yaml").write_text("limits: {file_bytes: 64000000}\n")
    code = "import sys; from assay.cli.main import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "ingest", "v=v.csv.gz", "--out", "o", "--config", "i.yaml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 * 2**29, 3 * 2**29)),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "unpacked" in done.stderr


def test_t7_formula_cells_are_stored_as_they_came_flagged_and_shown_behind_a_quote(tmp_path: Path) -> None:
    formula = "=cmd|' /C calc'!A1"
    rows = "".join(f"w{k},{k},{'ab'[k % 2]}\n" for k in range(30))
    take(tmp_path, v=f"t,x,label\n{rows}{formula},31,a\n@SUM(1),32,b\n")
    document = sanitize(
        tmp_path / "o" / "dataset",
        SanitizeConfig(),
        kept=tmp_path / "k",
        quarantine=tmp_path / "q",
        page=tmp_path / "page.html",
    )
    assert document["flagged"] == {"formula_cell": 2}
    assert Dataset.load(tmp_path / "k").table["t"].to_pylist()[-2:] == [formula, "@SUM(1)"]
    page = (tmp_path / "page.html").read_text()
    assert "&#39;=cmd|" in page
    assert ">=cmd" not in page
    assert ">@SUM" not in page


def test_t8_one_class_copies_and_records_near_the_hold_out_do_not_pass(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, own = rng.normal(size=40), rng.normal(size=(200, 2))

    def text(values: Any, one: bool = False) -> str:
        rows = "".join(f"{float(a)!r},{float(b)!r},{'a' if one else 'ab'[k % 2]}\n" for k, (a, b) in enumerate(values))
        return "x,y,label\n" + rows

    with pytest.raises(UnfitInput, match="one class"):
        take(tmp_path, v=text(np.stack([x, x], 1), one=True))
    near = own[:40] + 1e-4
    far = own[:40] + 1.0
    for name, values, reasons in (("near", near, {"near_holdout_record"}), ("far", far, set())):
        config = {"near_holdout": 0.001, "salt": name}
        document = take(tmp_path, name, config, **{f"v-{name}": text(values), "own": text(own)})
        assert set(document["reasons"]) == reasons
        held = {int(it.rpartition(":")[2]) for it in Dataset.load(tmp_path / name / "holdout").record_ids}
        gone = {int(it.rpartition(":")[2]) for it in Dataset.load(tmp_path / name / "quarantine").record_ids}
        assert gone == (held & set(range(40)) if reasons else set())
    with pytest.raises(UnfitInput, match="it twice"):
        ingest(
            [SourceConfig(name="v", uri=str(tmp_path / "v-far.csv"))] * 2, IngestConfig(),
            dataset=tmp_path / "d", quarantine=tmp_path / "q", calibration=None, holdout=None,
        )  # fmt: skip


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf, None])
def test_t9_a_weight_that_is_none_leaves_with_its_record_and_none_comes_from_outside(
    tmp_path: Path, weight: float | None
) -> None:
    with pytest.raises(UnfitInput, match="assay keeps"):
        take(tmp_path, v="x,weight,label\n1,2,a\n2,2,b\n")
    weights = pa.array([1.0] * 9 + [weight], pa.float64())
    table = {"batch": ["v/b"] * 10, "row": np.arange(10), "f": np.arange(10.0), "label": np.arange(10) % 2}
    history = History("ingest", "kept", (BatchShare("v", "b", "0" * 64, 0),))
    Dataset.make(pa.table(table | {"weight": weights}), ("a", "b"), history).save(tmp_path / "in")
    assert clean(tmp_path / "in", tmp_path / "s")["reasons"] == {"unfit_weight": 1}


def test_t10_times_of_several_zones_are_one_and_times_of_none_are_kept_aside(tmp_path: Path) -> None:
    cells = ["2024-03-31T02:30:00+02:00", "2024-03-31T00:30:00Z", "2024-03-31T02:30:00"] + ["2024-01-01T00:00:00Z"] * 27
    rows = "".join(f"{cell},{k},{'ab'[k % 2]}\n" for k, cell in enumerate(cells))
    document = take(tmp_path, config={"types": {"when": "time"}}, v="when,x,label\n" + rows)
    assert document["reasons"] == {"time_zone": 1}
    when = Dataset.load(tmp_path / "o" / "dataset").table["when"]
    assert when.type == pa.timestamp("us", "UTC")
    assert when[0] == when[1]


def test_t13_a_rare_honest_group_is_not_removed_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """20 honest records of a small source, all far from the trusted bulk, that a detector would take out."""
    rng = np.random.default_rng(2)

    def write(name: str, count: int, shift: float) -> str:
        values = rng.normal(size=(count, 3)) + shift
        columns = {f"f{k}": values[:, k] for k in range(3)} | {"label": np.arange(count) % 2}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        return f"{name}={tmp_path / name}.parquet"

    sources = [write("large", 300, 0), write("small", 20, 30), write("own", 500, 0)]
    assert run(["ingest", *sources, "--trusted", "own", "--out", str(tmp_path / "o")]) == 0
    (tmp_path / "s.yaml").write_text("detectors: {mahalanobis: {rate: 0.02, action: quarantine}}\n")
    given_ = ["sanitize", str(tmp_path / "o/dataset"), "--trusted", str(tmp_path / "o/calibration"), "--json"]
    places = ["--out", str(tmp_path / "k"), "--quarantine", str(tmp_path / "q"), "--config", str(tmp_path / "s.yaml")]
    capsys.readouterr()
    assert run([*given_, *places]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"].startswith("needs review")
    assert "source 'small' 20 of 20" in error["message"]
    assert not (tmp_path / "k").exists()
    assert not (tmp_path / "q").exists()
