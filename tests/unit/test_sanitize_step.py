"""Sanitize: every failing record leaves with its reasons, and nothing passes for want of a look."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from assay import canonical
from assay.config.base import parse
from assay.config.sanitize import SanitizeConfig
from assay.data.dataset import Dataset
from assay.data.findings import read_findings
from assay.data.manifest import BatchShare, History
from assay.errors import AssayError, UnfitInput, UnknownName
from assay.sanitize.caps import removals, require_caps
from assay.sanitize.expectations import standard_suite, validate
from assay.sanitize.scalars import frame
from assay.sanitize.step import sanitize
from assay.workspace import Workspace

ROWS = 60
Array = npt.NDArray[Any]


def dataset(rows: int = ROWS, name: str = "v", **columns: Any) -> Dataset:
    """Two batches of random records, labels in turn; columns replace or join the usual ones."""
    rng = np.random.default_rng([7, *name.encode()])
    half = rows // 2
    made = {
        "batch": pa.array([f"{name}/b"] * half + [f"w-{name}/b"] * (rows - half)),
        "row": pa.array([*range(half), *range(rows - half)]),
        "f": pa.array(rng.normal(size=rows)),
        "g": pa.array(rng.integers(0, 100, rows)),
        "label": pa.array(np.arange(rows) % 2),
    } | {key: pa.array(value) if isinstance(value, np.ndarray | list) else value for key, value in columns.items()}
    shares = (BatchShare(name, "b", "0" * 64, 0), BatchShare(f"w-{name}", "b", "1" * 64, 0))
    return Dataset.make(pa.table(made), ["n", "y"], History("ingest", "kept", shares))


def images(rows: int = ROWS) -> Array:
    return np.random.default_rng(1).random((rows, 3, 3)).astype(np.float32)


def between(column: str, low: float, high: float, **given: Any) -> dict[str, Any]:
    kwargs = {"column": column, "min_value": low, "max_value": high} | given
    return {"type": "expect_column_values_to_be_between", "kwargs": kwargs}


def run(
    given: Dataset, folder: Path, *, calibration: Dataset | None = None, page: bool = False, **config: Any
) -> dict[str, Any]:
    given.save(folder / "in")
    if calibration is not None:
        calibration.save(folder / "calibration")
    return sanitize(
        folder / "in",
        parse(SanitizeConfig, config, "sanitize"),
        kept=folder / "kept",
        quarantine=folder / "quarantine",
        calibration=folder / "calibration" if calibration is not None else None,
        page=folder / "page.html" if page else None,
    )


def left(folder: Path) -> dict[str, set[str]]:
    """Reasons by record, of the findings that removed it."""
    found: dict[str, set[str]] = {}
    for finding in read_findings((folder / "quarantine" / "findings.parquet").read_bytes()):
        if finding.action == "quarantine":
            found.setdefault(finding.record_id, set()).add(finding.reason)
    return found


def test_a_clean_dataset_stays_whole(tmp_path: Path) -> None:
    given = dataset()
    document = run(given, tmp_path, suite=[between("f", -100, 100)])
    assert document["kept"] == ROWS
    assert document["reasons"] == {}
    assert document["dataset"]["content_digest"] == given.manifest.content_digest
    assert len(Dataset.load(tmp_path / "quarantine")) == 0


def test_the_failing_records_are_those_numpy_finds_and_the_parts_are_the_input(tmp_path: Path) -> None:
    given = dataset(1200)
    document = run(given, tmp_path, suite=[between("f", -0.5, 3), between("g", 0, 90)], removal_cap=1)
    f, g = given.table["f"].to_numpy(), given.table["g"].to_numpy()
    fails = {
        "expect_column_values_to_be_between(f)": ~((f >= -0.5) & (f <= 3)),
        "expect_column_values_to_be_between(g)": g > 90,
    }
    expected: dict[str, set[str]] = {}
    for reason, mask in fails.items():
        for row in np.flatnonzero(mask):
            expected.setdefault(given.record_ids[row], set()).add(reason)
    assert left(tmp_path) == expected
    assert len(expected) > 300, "more than Great Expectations lists without being asked for all"
    kept, gone = Dataset.load(tmp_path / "kept"), Dataset.load(tmp_path / "quarantine")
    assert Counter(kept.record_ids) + Counter(gone.record_ids) == Counter(given.record_ids)
    assert document["quarantined"] == len(gone) == sum(document["reasons"].values())
    assert [it["failing"] for it in document["expectations"][-2:]] == [int(mask.sum()) for mask in fails.values()]
    assert kept.manifest.history.parents == gone.manifest.history.parents == (given.manifest.digest,)


def test_what_mostly_forgives_leaves_all_the_same(tmp_path: Path) -> None:
    """Great Expectations calls a share of 0.95 a success; the other records still fail it."""
    values = np.linspace(0, 1, ROWS)
    values[:3] = 50
    document = run(dataset(f=values), tmp_path, suite=[between("f", 0, 1, mostly=0.9)])
    assert document["reasons"] == {"expect_column_values_to_be_between(f)": 3}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_takes_its_record_out_without_any_suite(tmp_path: Path, bad: float) -> None:
    values = np.linspace(0, 1, ROWS)
    values[17] = bad
    given = dataset(f=values)
    run(given, tmp_path)
    assert left(tmp_path) == {given.record_ids[17]: {"not_finite"}}


def test_one_pixel_that_is_not_finite_and_one_missing_value_take_their_records_out(tmp_path: Path) -> None:
    pixels = images()
    pixels[5, 1, 2] = np.nan
    pixels[6, 0, 0] = -np.inf
    texts: list[str | None] = ["a", "b", "c"] * 20
    texts[9] = None
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)
    given = dataset(x=tensor, t=texts)
    run(given, tmp_path)
    ids = given.record_ids
    assert left(tmp_path) == {ids[5]: {"not_finite"}, ids[6]: {"not_finite"}, ids[9]: {"missing_value"}}


def test_image_statistics_are_what_a_suite_sees(tmp_path: Path) -> None:
    pixels = images()
    pixels[3] = 0.5
    pixels[4, 0, 0] = 1.5
    given = dataset(x=pa.FixedShapeTensorArray.from_numpy_ndarray(pixels))
    seen = frame(given, np.ones(ROWS, np.bool_))
    flat = pixels.reshape(ROWS, -1)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(seen[f"x.{name}"], getattr(flat, name)(axis=1), rtol=1e-6)
    assert "x" not in seen.columns
    run(given, tmp_path, suite=[between("x.max", 0, 1), between("x.std", 0.01, 1)])
    assert left(tmp_path) == {
        given.record_ids[3]: {"expect_column_values_to_be_between(x.std)"},
        given.record_ids[4]: {"expect_column_values_to_be_between(x.max)"},
    }


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf, None])
def test_a_weight_that_is_no_weight_takes_its_record_out(tmp_path: Path, weight: float | None) -> None:
    weights: list[float | None] = [1.0] * ROWS
    weights[8] = weight
    given = dataset(weight=pa.array(weights, pa.float64()))
    run(given, tmp_path)
    assert left(tmp_path) == {given.record_ids[8]: {"unfit_weight"}}


@pytest.mark.parametrize("rule", ["quarantine", "flag", "keep"])
def test_the_first_of_equal_records_stays(tmp_path: Path, rule: str) -> None:
    base = dataset()
    f, g = base.table["f"].to_numpy().copy(), base.table["g"].to_numpy().copy()
    for copy in (20, 40):
        f[copy], g[copy] = f[2], g[2]
    f[31], g[31] = f[2], g[2]  # another label: no duplicate
    document = run(dataset(f=f, g=g), tmp_path, duplicates=rule)
    expected = {base.record_ids[row]: {"duplicate_record"} for row in (20, 40)}
    assert left(tmp_path) == (expected if rule == "quarantine" else {})
    assert document["flagged"] == ({"duplicate_record": 2} if rule == "flag" else {})


def test_copies_of_calibration_records_are_flagged_and_stay(tmp_path: Path) -> None:
    trusted, base = dataset(20, "t"), dataset()
    f, g = base.table["f"].to_numpy().copy(), base.table["g"].to_numpy().copy()
    f[[4, 6]], g[[4, 6]] = trusted.table["f"].to_numpy()[[0, 3]], trusted.table["g"].to_numpy()[[0, 3]]
    given = dataset(f=f, g=g)  # record 4 has the label of its copy, record 6 another
    document = run(given, tmp_path, calibration=trusted)
    assert document["flagged"] == {"calibration_record": 1}
    findings = read_findings((tmp_path / "quarantine" / "findings.parquet").read_bytes())
    assert [(it.record_id, it.action) for it in findings] == [(given.record_ids[4], "flag")]
    assert document["kept"] == ROWS


@pytest.mark.parametrize(
    ("entry", "error", "words"),
    [
        (
            {"type": "expect_column_values_to_be_betwen", "kwargs": {}},
            UnknownName,
            "Did you mean 'expect_column_values_to_be_between'",
        ),
        ({"type": "expect_column_values_to_be_between", "kwarg": {}}, UnknownName, "Did you mean 'kwargs'"),
        (between("f", 0, 1, mostly=7), UnfitInput, "settings it takes"),
        (between("f", 1, 0), UnfitInput, "min_value cannot be greater"),
        (between("nothing", 0, 1), UnfitInput, "nothing"),
        ({"type": "expect_column_mean_to_be_between", "kwargs": {"column": "f", "min_value": 5}}, UnfitInput, "whole"),
        ({"type": "expect_table_row_count_to_equal", "kwargs": {"value": 1}}, UnfitInput, "whole table"),
        ({"type": "expect_table_columns_to_match_set", "kwargs": {"column_set": ["f"]}}, UnfitInput, "whole table"),
        ({"type": "expect_column_to_exist", "kwargs": {"column": "h"}}, UnfitInput, "whole table"),
    ],
)
def test_an_expectation_that_cannot_hold_or_be_asked_stops_the_step(
    tmp_path: Path, entry: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(dataset(), tmp_path, suite=[entry])
    assert not (tmp_path / "kept").exists()


def test_what_great_expectations_calls_success_on_nothing_is_refused() -> None:
    """Reference: its own answer is success on no rows, on values that are all missing, and on an empty suite."""
    none = frame(dataset(), np.zeros(ROWS, np.bool_))
    with pytest.raises(UnfitInput, match="on 0 records"):
        validate(none, [between("f", 0, 1)])
    with pytest.raises(UnfitInput, match="0 expectations"):
        validate(frame(dataset(), np.ones(ROWS, np.bool_)), [])
    missing = frame(dataset(), np.ones(ROWS, np.bool_)).assign(f=np.nan)
    with pytest.raises(UnfitInput, match="no value to evaluate"):
        validate(missing, [between("f", 0, 1)])


def test_the_standard_suite_finds_labels_outside_and_ids_twice() -> None:
    """A dataset cannot hold either; the suite must say so of a frame that does."""
    wrong = frame(dataset(), np.ones(ROWS, np.bool_))
    wrong.loc[3, "label"] = 7
    wrong.loc[5, "record_id"] = wrong.loc[4, "record_id"]
    outcomes = {it.reason: it.failing for it in validate(wrong, standard_suite(2, 2))}
    assert outcomes["expect_column_values_to_be_between(label)"] == (wrong.loc[3, "record_id"],)
    assert outcomes["expect_column_values_to_be_unique(record_id)"] == (wrong.loc[4, "record_id"],)


@pytest.mark.parametrize(("group", "words"), [("source", "source 'v' 20 of 30"), ("class", "class 'y' 20 of 30")])
def test_a_source_or_class_that_would_lose_more_than_its_cap_needs_review(
    tmp_path: Path, group: str, words: str
) -> None:
    values = np.linspace(0, 1, ROWS)
    values[np.arange(20) if group == "source" else np.arange(1, 41, 2)] = np.linspace(90, 99, 20)
    with pytest.raises(AssayError, match=f"needs review.*{words}") as caught:
        run(dataset(f=values), tmp_path, page=True, suite=[between("f", 0, 1)], removal_cap=0.6)
    assert caught.value.exit_code == 3
    assert not (tmp_path / "kept").exists()
    assert not (tmp_path / "quarantine").exists()
    assert "needs review" in (tmp_path / "page.html").read_text()


def test_the_cap_itself_is_allowed_and_one_record_more_is_not() -> None:
    given = dataset()
    leave = np.zeros(ROWS, np.bool_)
    leave[:15] = True
    require_caps(removals(given, leave), 0.5)
    leave[15] = True
    with pytest.raises(AssayError, match="source 'v' 16 of 30"):
        require_caps(removals(given, leave), 0.5)


def test_too_few_records_or_classes_left_is_an_error(tmp_path: Path) -> None:
    values = np.full(ROWS, np.nan)
    values[:3] = [1, 2, 3]
    with pytest.raises(UnfitInput, match="3 of 60 records"):
        run(dataset(f=values), tmp_path, least_records=4, removal_cap=1)
    odd = np.linspace(0, 1, ROWS)
    odd[1::2] = np.nan
    (tmp_path / "b").mkdir()
    with pytest.raises(UnfitInput, match="one class"):
        run(dataset(f=odd), tmp_path / "b", removal_cap=1)
    assert not (tmp_path / "b" / "kept").exists()


def test_no_records_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match="0 of 0 records"):
        run(dataset().take(np.zeros(ROWS, np.bool_), dataset().manifest.history), tmp_path)


def test_constant_columns_are_told(tmp_path: Path) -> None:
    assert run(dataset(c=np.ones(ROWS)), tmp_path)["constant"] == ["c"]


def test_equal_inputs_give_equal_bytes_and_findings_in_the_ledger(tmp_path: Path, workspace: Workspace) -> None:
    values = np.linspace(0, 1, ROWS)
    values[:3] = 7
    for name in "ab":
        (tmp_path / name).mkdir()
        run(dataset(f=values), tmp_path / name, suite=[between("f", 0, 1)], page=True)
    for part in ("kept", "quarantine"):
        assert canonical.tree_files(tmp_path / "a" / part) == canonical.tree_files(tmp_path / "b" / part)
    assert (tmp_path / "a" / "page.html").read_bytes() == (tmp_path / "b" / "page.html").read_bytes()
    digest = canonical.file_digest(tmp_path / "a" / "quarantine" / "findings.parquet")
    assert workspace.ledger.names("findings/") == [f"findings/{digest}.parquet"]
    assert Dataset.load(tmp_path / "a" / "kept").manifest.history.findings == digest


def test_great_expectations_neither_phones_home_nor_litters_nor_talks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reached: list[object] = []

    def refuse(_: socket.socket, address: object) -> None:
        reached.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    run(dataset(), tmp_path, suite=[between("f", -100, 100)])
    assert reached == []
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "kept", "quarantine", ".assay"}
    output = capfd.readouterr()
    assert output.out == ""
    assert "xpectation" not in output.err


def test_the_page_shows_counts_expectations_and_pictures(tmp_path: Path) -> None:
    pixels = images()
    pixels[2] = 9
    given = dataset(x=pa.FixedShapeTensorArray.from_numpy_ndarray(pixels), f=np.ones(ROWS))
    run(given, tmp_path, suite=[between("x.max", 0, 1)], page=True)
    page = (tmp_path / "page.html").read_text()
    for words in (
        given.record_ids[2],
        "expect_column_values_to_be_between(x.max)",
        "data:image/png;base64",
        "<svg",
        "59 kept, 1",
        "By batch",
        ">x.max</text>",  # the distribution that was found wanting
    ):
        assert words in page
    for outside in ("http://", "https://", "<script", "file://"):
        assert outside not in page.replace("http://www.w3.org/", "")


def test_great_expectations_own_page_is_beside_the_report_and_can_neither_fetch_nor_run(tmp_path: Path) -> None:
    """Its policy stands ahead of whatever Great Expectations, or a cell of a record, brings."""
    words = ["red", "blue"] * 29 + ["</td><script>alert(1)</script>", "<img src=x onerror=alert(1)>"]
    given = dataset(colour=words)
    given.save(tmp_path / "in")
    suite = [
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "colour", "value_set": ["red", "blue"]}}
    ]
    (tmp_path / "pages").mkdir()
    sanitize(
        tmp_path / "in",
        parse(SanitizeConfig, {"suite": suite}, "sanitize"),
        kept=tmp_path / "kept",
        quarantine=tmp_path / "quarantine",
        page=tmp_path / "pages" / "page.html",
        docs=tmp_path / "gx docs.html",
    )
    assert 'href="./../gx%20docs.html"' in (tmp_path / "pages" / "page.html").read_text()
    text = (tmp_path / "gx docs.html").read_text()
    assert "colour" in text
    assert "Evaluated Expectations" in text
    head = text[: text.index("<title>")]
    assert head.split("<head>")[1].startswith(
        '<meta charset="utf-8"><meta name="referrer" content="no-referrer"><meta http'
    )
    assert "default-src 'none'" in head
    assert "script-src" not in text
    before = [tag for tag in ("<script", "<link", "<img", "<iframe", "<base") if tag in head]
    assert before == []


def test_the_verb_answers_as_the_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from assay.cli.main import run as cli

    dataset().save(tmp_path / "in")
    (tmp_path / "s.yaml").write_text(
        "suite:\n- {type: expect_column_values_to_be_between, kwargs: {column: g, max_value: 90}}\n"
    )
    given = ["sanitize", str(tmp_path / "in"), "--out", str(tmp_path / "k"), "--quarantine", str(tmp_path / "q")]
    assert cli([*given, "--config", str(tmp_path / "s.yaml"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["dataset"]["digest"] == Dataset.load(tmp_path / "k").manifest.digest
    assert set(document) >= {"dataset", "kept", "quarantined", "reasons"}
    (tmp_path / "s.yaml").write_text(
        "suite:\n- {type: expect_column_values_to_be_between, kwargs: {column: g, max_value: 9}}\n"
    )
    given = ["sanitize", str(tmp_path / "in"), "--out", str(tmp_path / "k2"), "--quarantine", str(tmp_path / "q2")]
    assert cli([*given, "--config", str(tmp_path / "s.yaml")]) == 3
    assert "needs review" in capsys.readouterr().err
