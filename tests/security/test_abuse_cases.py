"""The abuse cases of the data supply chain: for each what the command line answers, and where the deeper tests stand.

A case is either refused, with an exit code, a word about it and nothing written, or its records are set aside by
reason. Each has a test here that says which, by `refused` or `aside`.

T1 too few rows       T2 not finite          T3 shifted columns   T4 twins of names    T5 bombs
T6 image bombs        T7 formula cells       T8 degenerate data   T9 weights           T10 times
T13 caps              T29 namespaces         R10 broken answers   R11 replaced objects R12 deleted objects
"""

from __future__ import annotations

import ast
import base64
import gzip
import json
import os
import re
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


CASES = ("t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9", "t10", "t13", "t29")
FAULTS = TESTS / "faults" / "test_ledger_object_store.py"
NOTHING = ("exists()", "iterdir()")


def functions(file: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}


def calls(node: ast.AST) -> set[str]:
    return {it.func.id for it in ast.walk(node) if isinstance(it, ast.Call) and isinstance(it.func, ast.Name)}


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_a_test_that_states_its_outcome(case: str) -> None:
    """By `refused` or `aside`, which look at the exit code and at what is on disk."""
    mine = [node for name, node in functions(Path(__file__)).items() if name.startswith(f"test_{case}_")]
    assert mine
    assert any({"refused", "aside"} & calls(node) for node in mine)


@pytest.mark.parametrize("case", ELSEWHERE)
def test_the_tests_elsewhere_are_there_and_can_fail(case: str) -> None:
    """They assert, or ask for an error, are never skipped nor expected to fail; those of faults look at the disk."""
    file, _, name = ELSEWHERE[case].partition("::")
    node = functions(TESTS / file)[name]
    text = ast.unparse(node)
    assert any(isinstance(it, ast.Assert) for it in ast.walk(node)) or "pytest.raises" in text
    assert not any("skip" in ast.unparse(it) or "xfail" in ast.unparse(it) for it in node.decorator_list)
    if case.startswith("R"):
        assert any(sign in text for sign in NOTHING)
        assert "pytest.raises" in text


@pytest.fixture(autouse=True)
def _no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only files and the ledger are looked at here."""
    monkeypatch.setattr("assay.mlflow_mirror.deliver", lambda _: None)


def disk(folder: Path) -> set[str]:
    """Every file below, the ledger's included."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def refused(folder: Path, capsys: pytest.CaptureFixture[str], code: int, words: str, *given: object) -> None:
    """The verb leaves with the code, says why, and leaves the disk as it was."""
    before = disk(folder)
    capsys.readouterr()
    assert run([*map(str, given), "--json"]) == code
    message = json.loads(capsys.readouterr().out)["error"]["message"]
    assert re.search(words, message), message
    assert disk(folder) == before


def aside(
    capsys: pytest.CaptureFixture[str], code: int, reasons: dict[str, int], kept: int, *given: object
) -> dict[str, Any]:
    """The verb leaves with the code; so many records are kept, and the others are set aside for these reasons."""
    capsys.readouterr()
    assert run([*map(str, given), "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (document["reasons"], document["kept"]) == (reasons, kept)
    return document


def deliver(folder: Path, text: str | bytes, name: str = "v.csv") -> str:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return f"v={folder / name}"


def table(rows: int, cell: str = "{k}", **at: str) -> str:
    """A CSV of two columns; ``r3="..."`` replaces the fourth row."""
    lines = [at.get(f"r{k}", f"{cell.format(k=k)},{'ab'[k % 2]}") for k in range(rows)]
    return "x,label\n" + "\n".join(lines) + "\n"


def saved(folder: Path, count: int, **columns: Any) -> Path:
    """A dataset on disk, as an earlier step would have left it."""
    made = {
        "batch": ["v/b"] * count,
        "row": np.arange(count),
        "f": np.arange(count) * 1.0,
        "label": np.arange(count) % 2,
    }
    history = History("ingest", "kept", (BatchShare("v", "b", "0" * 64, 0),))
    Dataset.make(pa.table(made | columns), ("a", "b"), history).save(folder / "in")
    return folder / "in"


def places(folder: Path) -> tuple[object, ...]:
    return ("--out", folder / "k", "--quarantine", folder / "q")


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


@pytest.mark.parametrize("rows", [0, 1])
def test_t1_too_few_rows_end_in_an_error_and_no_output(
    tmp_path: Path, rows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "no record" if not rows else "one class"
    refused(tmp_path, capsys, 2, words, "ingest", deliver(tmp_path, table(rows)), "--out", tmp_path / "o")


def test_t1_fewer_records_than_the_least_are_not_sanitized(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.yaml").write_text("least_records: 3\n")
    given = ("sanitize", saved(tmp_path, 2), *places(tmp_path), "--config", tmp_path / "s.yaml")
    refused(tmp_path, capsys, 2, "at least 3", *given)


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


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
def test_t2_values_that_are_not_finite_leave_and_above_the_quota_nothing_is_written(
    tmp_path: Path, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for bad, code in ((5, 0), (30, 3)):
        folder = tmp_path / str(bad)
        folder.mkdir()
        cells = np.arange(40.0)
        cells[:bad] = float(value)
        given = ("sanitize", saved(folder, 40, f=cells, g=np.arange(40)), *places(folder))
        if not code:
            aside(capsys, code, {"not_finite": bad}, 40 - bad, *given)
            assert np.isfinite(Dataset.load(folder / "k").table["f"].to_numpy()).all()
        else:
            refused(folder, capsys, code, "needs review", *given)


def test_t3_a_comma_too_many_never_shifts_a_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`pandas.read_csv` reads a as [2, 2] here, and says nothing. Where few rows are so, they alone are kept aside."""
    given = deliver(tmp_path, "a,label\n1,2,3\n1,2\n")
    refused(tmp_path, capsys, 2, r"line 2: got field_count", "ingest", given, "--out", tmp_path / "o")
    given = deliver(tmp_path, table(40, r7="7,b,b"), "w.csv")
    aside(capsys, 0, {"field_count": 1}, 39, "ingest", given, "--out", tmp_path / "o")
    raw = json.loads((tmp_path / "o/quarantine/raw.jsonl").read_text())
    assert (raw["row"], raw["line"], base64.b64decode(raw["bytes"])) == (7, 9, b"7,b,b")


@pytest.mark.parametrize(("name", "point"), [("l\u0430bel", "U+0430"), ("label\u200b", "U+200B"), ("LABEL", "LABEL")])
def test_t4_a_twin_of_a_column_is_refused_by_its_code_points(
    tmp_path: Path, name: str, point: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = deliver(tmp_path, f"x,{name},label\n1,2,a\n3,4,b\n")
    refused(tmp_path, capsys, 2, "ambiguous_column", "ingest", given, "--out", tmp_path / "o")
    run(["ingest", given, "--out", str(tmp_path / "o")])
    assert point in capsys.readouterr().err


def test_t4_composed_and_decomposed_names_are_twins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = deliver(tmp_path, "caf\u00e9,cafe\u0301,label\n1,2,a\n3,4,b\n")
    refused(tmp_path, capsys, 2, "ambiguous_column", "ingest", given, "--out", tmp_path / "o")


def test_t5_more_bytes_rows_or_cells_than_a_limit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = gzip.compress(table(200_000).encode())
    for limit, name, data in (
        ("file_bytes: 100000", "v.csv.gz", packed),
        ("rows: 39", "v.csv", table(40).encode()),
    ):
        (tmp_path / "i.yaml").write_text(f"limits: {{{limit}}}\n")
        given = ("ingest", deliver(tmp_path, data, name), "--out", tmp_path / "o", "--config", tmp_path / "i.yaml")
        refused(tmp_path, capsys, 2, r"at most|more than", *given)
    (tmp_path / "i.yaml").write_text("limits: {line_bytes: 1000}\n")
    given = ("ingest", deliver(tmp_path, table(40, r3="1" * 2000 + ",b"), "w.csv"), "--out", tmp_path / "o")
    aside(capsys, 0, {"line_too_long": 1}, 39, *given, "--config", tmp_path / "i.yaml")


def test_t6_an_image_of_too_many_pixels_is_set_aside_by_its_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """9,000 x 9,000 from 10 kB, which Pillow by itself loads without a word."""
    from PIL import Image

    for k in range(24):
        place = tmp_path / "in" / "ab"[k % 2] / f"{k}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), k).save(place)
    Image.new("1", (9000, 9000)).save(tmp_path / "in" / "a" / "z.png")
    given = ("ingest", f"v={tmp_path / 'in'}/", "--out", tmp_path / "o")
    aside(capsys, 0, {"too_many_pixels": 1}, 24, *given)


@pytest.mark.slow
def test_t5_a_huge_cell_and_a_zip_bomb_end_within_their_memory(tmp_path: Path) -> None:
    """One cell of 300 MB in less than a megabyte of gzip, within a limit of 64 MB: 512 MiB at the peak, all told."""
    with gzip.open(tmp_path / "v.csv.gz", "wb", compresslevel=1) as stream:
        stream.write(b"x,label\n")
        for _ in range(300):
            stream.write(b"a" * 10**6)
    (tmp_path / "i.yaml").write_text("limits: {file_bytes: 64000000}\n")
    code = (
        "import resource, sys; from assay.cli.main import run; status = run(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "ingest", "v=v.csv.gz", "--out", "o", "--config", "i.yaml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32)),  # Arrow reserves a GiB of addresses
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "unpacked" in done.stderr
    assert int(done.stdout) < 512 * 1024


def test_t7_formula_cells_are_stored_as_they_came_flagged_and_shown_behind_a_quote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    formula = "=cmd|' /C calc'!A1"
    rows = "".join(f"w{k},{k},{'ab'[k % 2]}\n" for k in range(30))
    take(tmp_path, v=f"t,x,label\n{rows}{formula},31,a\n@SUM(1),32,b\n")
    given_ = ("sanitize", tmp_path / "o/dataset", *places(tmp_path), "--page", tmp_path / "page.html")
    document = aside(capsys, 0, {}, 32, *given_)
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


def test_t8_one_class_constant_features_and_copies_are_told_refused_or_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = deliver(tmp_path, "x,label\n" + "".join(f"{k},a\n" for k in range(40)))
    refused(tmp_path, capsys, 2, "one class", "ingest", one, "--out", tmp_path / "o")
    copies = saved(tmp_path, 40, f=np.concatenate([np.arange(36.0), np.arange(4.0)]), c=np.ones(40))
    document = aside(capsys, 0, {"duplicate_record": 4}, 36, "sanitize", copies, *places(tmp_path))
    assert document["constant"] == ["c"]


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf, None])
def test_t9_a_weight_that_is_none_leaves_with_its_record_and_none_comes_from_outside(
    tmp_path: Path, weight: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    given = deliver(tmp_path, "x,weight,label\n1,2,a\n2,2,b\n")
    refused(tmp_path, capsys, 2, "assay keeps", "ingest", given, "--out", tmp_path / "o")
    weights = pa.array([1.0] * 9 + [weight], pa.float64())
    aside(capsys, 0, {"unfit_weight": 1}, 9, "sanitize", saved(tmp_path, 10, weight=weights), *places(tmp_path))


def test_t10_times_of_several_zones_are_one_and_times_of_none_or_of_the_future_are_kept_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """02:30 on 31 March 2024 is an hour that clocks in Berlin left out: without its zone it says nothing."""
    cells = ["2024-03-31T02:30:00+02:00", "2024-03-31T00:30:00Z", "2024-03-31T02:30:00", "2031-01-01T00:00:00Z"]
    cells += ["2024-01-01T00:00:00Z"] * 26
    rows = "".join(f"{cell},{k},{'ab'[k % 2]}\n" for k, cell in enumerate(cells))
    (tmp_path / "i.yaml").write_text("types: {when: time}\nlatest: '2025-01-01T00:00:00Z'\n")
    given_ = ("ingest", deliver(tmp_path, "when,x,label\n" + rows), "--out", tmp_path / "o")
    aside(capsys, 0, {"time_zone": 1, "future_time": 1}, 28, *given_, "--config", tmp_path / "i.yaml")
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
    given_ = ["sanitize", str(tmp_path / "o/dataset"), "--trusted", str(tmp_path / "o/calibration")]
    places = ["--out", str(tmp_path / "k"), "--quarantine", str(tmp_path / "q"), "--config", str(tmp_path / "s.yaml")]
    refused(tmp_path, capsys, 3, r"^needs review.*source 'small' 20 of 20", *given_, *places)


def test_t29_what_lies_outside_a_source_s_place_is_not_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A neighbour's folder of a similar name, a way up, and a link out of the place; nothing of them is kept aside."""
    for name in ("team", "team-b"):
        (tmp_path / name).mkdir()
        deliver(tmp_path / name, table(10))
    (tmp_path / "team" / "link.csv").symlink_to(tmp_path / "team-b" / "v.csv")
    rules = {"v": {"prefixes": [str(tmp_path / "team")], "require_signature": False}}
    for k, uri in enumerate(("team-b/v.csv", "team/../team-b/v.csv", "team/link.csv")):
        (tmp_path / "i.yaml").write_text(json.dumps({"sources": rules}))
        out = tmp_path / f"o{k}"
        assert run(["ingest", f"v={tmp_path / uri}", "--out", str(out), "--config", str(tmp_path / "i.yaml")]) == 1
        assert disk(out) == {"quarantine/rejected.jsonl"}
        assert json.loads((out / "quarantine/rejected.jsonl").read_text())["check"] == "prefix"
    inside = ("ingest", f"v={tmp_path / 'team/v.csv'}", "--out", tmp_path / "o", "--config", tmp_path / "i.yaml")
    aside(capsys, 0, {}, 10, *inside)
