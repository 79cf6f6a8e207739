"""Nothing is deleted: both parts are the input, and a full release recreates it."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay import canonical, quarantine
from assay.canonical import tree_files
from assay.cli.main import run
from assay.data.dataset import Dataset
from assay.data.findings import Finding, findings_bytes, split
from assay.data.manifest import BatchShare, History
from assay.errors import UnfitInput
from assay.purge import purge
from assay.release import release
from assay.signing import unseal
from assay.workspace import Workspace

HISTORY = History("ingest", "kept", (BatchShare("v", "b", "0" * 64, 0), BatchShare("w", "b", "1" * 64, 0)))
ROWS = 40


def dataset() -> Dataset:
    rng = np.random.default_rng(5)
    columns = {
        "batch": pa.array(["v/b"] * 25 + ["w/b"] * 15),
        "row": pa.array([*range(25), *range(15)]),
        "f": pa.array(rng.normal(size=ROWS)),
        "x": pa.FixedShapeTensorArray.from_numpy_ndarray(rng.random((ROWS, 2, 2))),
        "label": pa.array(rng.integers(0, 2, ROWS)),
    }
    return Dataset.make(pa.table(columns), ["n", "y"], HISTORY)


def divide(leaving: set[int], folder: Path) -> tuple[Dataset, Path, Path]:
    """A dataset and its two parts on disk; the chosen rows leave, every third for two reasons."""
    given_ = dataset()
    names = [given_.record_ids[row] for row in sorted(leaving)]
    findings = [Finding(name, "test", 1.0, "odd", "quarantine") for name in names]
    findings += [Finding(name, "test", 2.0, "worse", "reject") for name in names[::3]]
    findings += [Finding(given_.record_ids[0], "test", 0.5, "note", "flag")]
    parts = split(given_, findings, step="sanitize", parameters={"seed": 0})
    parts.kept.save(folder / "kept")
    parts.quarantined.save(folder / "quarantine", {"findings.parquet": findings_bytes(parts.findings)})
    return given_, folder / "kept", folder / "quarantine"


@settings(max_examples=25)
@given(leaving=st.sets(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS))
def test_both_parts_are_the_input_and_a_full_release_recreates_it(leaving: set[int]) -> None:
    """Property: conservation as multisets of record ids, and equal content digests after the release."""
    with tempfile.TemporaryDirectory() as name:
        whole, kept, left = divide(leaving, Path(name))
        ids = Counter(Dataset.load(kept).record_ids) + Counter(Dataset.load(left).record_ids)
        assert ids == Counter(whole.record_ids)
        document = release(left, kept, Path(name) / "back")
        assert document["dataset"]["content_digest"] == whole.manifest.content_digest
        assert Dataset.load(Path(name) / "back").table.equals(whole.table)


def test_a_partial_release_puts_back_the_named_records_only(tmp_path: Path) -> None:
    _, kept, left = divide({1, 5, 30}, tmp_path)
    back = release(left, kept, tmp_path / "back", ids=["v/b:5"])
    assert back["released"] == 1
    joined = Dataset.load(tmp_path / "back")
    assert set(joined.record_ids) - set(Dataset.load(kept).record_ids) == {"v/b:5"}
    assert joined.manifest.history.parents == (Dataset.load(kept).manifest.digest, Dataset.load(left).manifest.digest)


def test_summary_counts_by_source_and_reason(tmp_path: Path) -> None:
    _, _, left = divide({1, 5, 30}, tmp_path)
    found = quarantine.summary(left)
    assert found["records"] == 3
    assert found["sources"] == {"v": {"odd": 2, "worse": 1}, "w": {"odd": 1}}


def test_show_gives_findings_and_cells(tmp_path: Path) -> None:
    whole, _, left = divide({1, 30}, tmp_path)
    found = quarantine.show(left, reason="worse")
    assert [entry["record_id"] for entry in found["records"]] == ["v/b:1"]
    assert found["records"][0]["cells"]["f"] == whole.table["f"][1].as_py()
    assert {it["reason"] for it in found["records"][0]["findings"]} == {"odd", "worse"}
    with pytest.raises(UnfitInput, match="w/b:9"):
        quarantine.show(left, ids=["w/b:9"])


def test_a_record_that_is_there_already_cannot_come_back(tmp_path: Path) -> None:
    _, kept, left = divide({1}, tmp_path)
    release(left, kept, tmp_path / "back")
    with pytest.raises(UnfitInput, match=r"v/b:1 twice"):
        release(left, tmp_path / "back", tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("what", ["findings", "kept for quarantine"])
def test_a_changed_quarantine_is_refused(tmp_path: Path, what: str) -> None:
    _, kept, left = divide({1, 2, 3}, tmp_path)
    if what == "findings":
        (left / "findings.parquet").write_bytes(findings_bytes([Finding("v/b:1", "t", 0.0, "nothing", "flag")]))
    with pytest.raises(UnfitInput):
        quarantine.summary(left if what == "findings" else kept)


def test_the_verbs_list_show_and_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, kept, left = divide({1, 30}, tmp_path)
    assert run(["quarantine", "list", str(left), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reasons"] == {"odd": 2, "worse": 1}
    assert run(["quarantine", "show", str(left), "--record", "w/b:5"]) == 0
    assert "w/b:5" in capsys.readouterr().out
    assert run(["quarantine", "release", str(left), "--kept", str(kept), "--out", str(tmp_path / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"]["content_digest"] == whole.manifest.content_digest
    assert (
        run(["quarantine", "release", str(left), "--kept", str(kept), "--out", str(tmp_path / "c"), "--record", "q"])
        == 2
    )


# purge


@pytest.fixture
def left(workspace: Workspace, tmp_path: Path) -> Path:
    """A quarantine of nine records, in a workspace with keys."""
    workspace.initialise()
    return divide(set(range(9)), tmp_path)[2]


def test_a_purge_says_first_what_would_go(workspace: Workspace, left: Path) -> None:
    before = tree_files(left)
    document = purge(left, workspace, reason="")
    assert (document["records"], document["reasons"], document["purged"]) == (9, ["odd", "worse"], False)
    assert (tree_files(left), workspace.ledger.names("purges/")) == (before, [])


def test_a_purge_deletes_the_records_and_keeps_what_they_were_and_why(workspace: Workspace, left: Path) -> None:
    manifest = (left / "manifest.json").read_bytes()
    document = purge(left, workspace, reason="erasure asked for", apply=True)
    assert sorted(tree_files(left)) == ["findings.parquet", "manifest.json", "purged.dsse.json"]
    assert (left / "manifest.json").read_bytes() == manifest
    said = unseal(workspace.ledger.get(document["statement"]), workspace.keyring, kind="quarantine", role="evaluator")
    assert (said.predicate["reason"], said.predicate["records"]) == ("erasure asked for", 9)
    assert said.statement["subject"][0]["digest"]["sha256"] == document["digest"] == canonical.sha256(manifest)
    assert purge(left, workspace, reason="again", apply=True) == document
    with pytest.raises(UnfitInput, match="was purged"):
        quarantine.summary(left)


@pytest.mark.parametrize("done", range(4))
def test_a_purge_that_was_interrupted_is_finished_by_the_same_command(
    workspace: Workspace, left: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    """Interrupted before the statement is copied, and after so many deletions."""
    steps = iter(range(done))

    def stops(*_: Any, **__: Any) -> None:
        if next(steps, None) is None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("assay.purge.write_file" if done == 0 else "pathlib.Path.unlink", stops)
        with pytest.raises(KeyboardInterrupt):
            purge(left, workspace, reason="why", apply=True)
    assert purge(left, workspace, reason="why", apply=True)["purged"]
    assert sorted(tree_files(left)) == ["findings.parquet", "manifest.json", "purged.dsse.json"]
    assert len(workspace.ledger.names("purges/")) == 1


def test_without_a_key_a_reason_or_whole_bytes_nothing_is_deleted(workspace: Workspace, left: Path) -> None:
    with pytest.raises(UnfitInput, match="reason"):
        purge(left, workspace, reason=" ", apply=True)
    (workspace.home / "keys" / "evaluator.pem").unlink()
    with pytest.raises(UnfitInput, match="evaluator"):
        purge(left, workspace, reason="why", apply=True)
    findings = left / "findings.parquet"
    findings.write_bytes(findings.read_bytes()[:-1])
    with pytest.raises(UnfitInput):
        purge(left, workspace, reason="why", apply=True)
    assert (left / "data").is_dir()
    assert workspace.ledger.names("purges/") == []


def test_the_verb_purges_only_with_apply(workspace: Workspace, left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quarantine", "purge", str(left)]) == 1
    assert "--apply deletes them for good" in capsys.readouterr().out
    assert run(["quarantine", "purge", str(left), "--apply", "--reason", "why", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["purged"] is True
