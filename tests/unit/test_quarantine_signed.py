"""A quarantine is signed, whoever verifies it sees any change, and a release asks for signature and open incidents."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from assay import canonical, quarantine
from assay.cli.main import run
from assay.config.ingest import IngestConfig, SourceConfig, SourceRule
from assay.data.dataset import Dataset
from assay.data.findings import Finding, findings_bytes, split
from assay.data.manifest import BatchShare, History
from assay.errors import Conflict, Refused, UnfitInput, Unreachable
from assay.evidence import payload_id
from assay.ingest.step import ingest
from assay.keyring import Keyring
from assay.lineage import put_dataset
from assay.purge import purge
from assay.quarantine_seal import SIGNATURE, seal_quarantine
from assay.release import release
from assay.signing import peek, seal, statement, unseal
from assay.verify import verify
from assay.workspace import Workspace

HISTORY = History("ingest", "kept", (BatchShare("v", "b", "0" * 64, 0), BatchShare("w", "b", "1" * 64, 0)))
LEFT = ["v/b:1", "v/b:5", "w/b:3"]


def given() -> Dataset:
    values = np.random.default_rng(5).normal(size=40)
    columns = {"batch": ["v/b"] * 25 + ["w/b"] * 15, "row": [*range(25), *range(15)], "f": values}
    return Dataset.make(pa.table(columns | {"label": np.arange(40) % 2}), ["n", "y"], HISTORY)


@pytest.fixture(autouse=True)
def _no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the ledger is looked at here."""
    monkeypatch.setattr("assay.mlflow_mirror.deliver", lambda _: None)


@pytest.fixture
def parts(workspace: Workspace, tmp_path: Path) -> tuple[Path, Path]:
    """Folders of the kept and of the signed quarantine, both in the ledger."""
    workspace.initialise()
    return divide(workspace, tmp_path)


def divide(workspace: Workspace, folder: Path) -> tuple[Path, Path]:
    made = split(given(), [Finding(name, "t", 1.0, "odd", "quarantine") for name in LEFT], step="s", parameters={})
    for part in (made.kept, made.quarantined):
        put_dataset(workspace.ledger, part)
    made.kept.save(folder / "kept")
    extra = {"findings.parquet": findings_bytes(made.findings)}
    made.quarantined.save(folder / "left", extra, lambda at: seal_quarantine(at, workspace))
    return folder / "kept", folder / "left"


def incident(workspace: Workspace, ref: str, models: dict[str, str] | None = None) -> str:
    """An open incident in the ledger; returns its id."""
    made = statement("incident", models or {"batch/v/b": "0" * 64}, {"ref": ref, "reason": "bad"})
    name = payload_id(made)
    workspace.ledger.put(f"incidents/{name}.dsse.json", seal(made, workspace.signers("evaluator")))
    return name


def test_a_signed_quarantine_verifies_and_its_statement_names_every_file(
    workspace: Workspace, parts: tuple[Path, Path]
) -> None:
    document = verify(parts[1], workspace.keyring)
    assert document["verified"], document
    assert "quarantine of 3 records signed by" in document["reason"]
    opened = unseal(
        (parts[1] / SIGNATURE).read_bytes(), workspace.keyring, kind="quarantine", role="custodian", where="q"
    )
    named = {entry["name"]: entry["digest"]["sha256"] for entry in opened.statement["subject"]}
    assert named == {
        "dataset": canonical.file_digest(parts[1] / "manifest.json"),
        "file/findings.parquet": canonical.file_digest(parts[1] / "findings.parquet"),
    }
    name = f"quarantines/{named['dataset']}.dsse.json"
    assert workspace.ledger.get(name) == (parts[1] / SIGNATURE).read_bytes()


MORE = ("batch:v/b", "source:w", "dataset:{parent}", "dataset:{own}")
FAST = ("record:v/b:5", "run:r")
REFS = [*FAST, *(pytest.param(ref, marks=pytest.mark.slow) for ref in MORE)]


def strip(left: Path, _: Workspace) -> None:
    (left / SIGNATURE).unlink()
    (left / "files.json").unlink()  # lists it


def other_reason(left: Path, _: Workspace) -> None:
    (left / "findings.parquet").write_bytes(findings_bytes([Finding(LEFT[0], "t", 1.0, "fine", "flag")]))
    (left / "files.json").unlink()


def one_more(left: Path, _: Workspace) -> None:
    (left / "raw.jsonl").write_bytes(b"")


def unknown_key(left: Path, workspace: Workspace) -> None:
    Keyring().save(workspace.keyring_path)
    (workspace.home / "keys" / "custodian.pem").unlink()
    workspace.initialise()


def of_another(left: Path, workspace: Workspace) -> None:
    """A genuine statement about the very same files, but that of a purge."""
    said = peek((left / SIGNATURE).read_bytes())
    named = {entry["name"]: entry["digest"]["sha256"] for entry in said["subject"]}
    made = statement("quarantine", named, {"action": "purge"})
    (left / SIGNATURE).write_bytes(seal(made, workspace.signers("custodian")))
    (left / "files.json").unlink()


def lost_record(left: Path, _: Workspace) -> None:
    """A dataset of two of the three records, whole in itself, in place of the one that was signed."""
    held = Dataset.load(left)
    shutil.rmtree(left / "data")
    fewer = held.take(np.array([0, 1]), held.manifest.history)
    (left / "files.json").unlink()
    fewer.save(left.with_name("fewer"))
    for name in ("data", "manifest.json"):
        shutil.rmtree(left / name, ignore_errors=True)
        shutil.move(left.with_name("fewer") / name, left / name)


@pytest.mark.parametrize("change", [strip, other_reason, one_more, unknown_key, of_another, lost_record])
def test_whatever_is_changed_is_not_verified_and_not_released(
    workspace: Workspace, parts: tuple[Path, Path], tmp_path: Path, change: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, left = parts
    change(left, workspace)
    assert run(["verify", str(left), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verified"] is False
    with pytest.raises((Refused, UnfitInput)):
        release(left, kept, tmp_path / "back")
    if change is not strip:
        with pytest.raises((Refused, UnfitInput)):
            release(left, kept, tmp_path / "back", allow_unsigned=True, reason="in a hurry")
    assert not (tmp_path / "back").exists()


def test_an_unsigned_quarantine_comes_back_where_nobody_has_a_key_or_for_a_reason_that_is_kept(
    workspace: Workspace, tmp_path: Path
) -> None:
    kept, left = divide(workspace, tmp_path)
    assert not (left / SIGNATURE).exists()
    assert release(left, kept, tmp_path / "a")["released"] == 3
    workspace.initialise()
    with pytest.raises(Refused, match=r"no quarantine\.dsse\.json"):
        release(left, kept, tmp_path / "b")
    with pytest.raises(UnfitInput, match="reason"):
        release(left, kept, tmp_path / "b", allow_unsigned=True)
    release(left, kept, tmp_path / "b", allow_unsigned=True, reason="made before the keys")
    parameters = Dataset.load(tmp_path / "b").manifest.history.parameters
    assert (parameters["unsigned"], parameters["reason"]) == (True, "made before the keys")


def test_the_same_quarantine_twice_is_the_same_bytes_and_another_under_its_name_a_conflict(
    workspace: Workspace, parts: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "again").mkdir()
    _, again = divide(workspace, tmp_path / "again")
    assert canonical.tree_files(again) == canonical.tree_files(parts[1])
    (again / "raw.jsonl").write_bytes(b"")
    before = (again / SIGNATURE).read_bytes()
    with pytest.raises(Conflict, match="other files"):
        seal_quarantine(again, workspace)
    assert (again / SIGNATURE).read_bytes() == before


@pytest.mark.parametrize("ref", REFS)
def test_records_that_an_open_incident_is_about_do_not_come_back_unless_it_is_overridden_with_a_reason(
    workspace: Workspace, parts: tuple[Path, Path], tmp_path: Path, ref: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, left = parts
    put_dataset(workspace.ledger, given())
    own, parent = canonical.file_digest(left / "manifest.json"), given().manifest.digest
    if ref == "run:r":
        step = {"schema": "assay.step/v1", "outputs": [{"kind": "dataset", "digest": parent, "context": "training"}]}
        workspace.ledger.put("runs/r/ingest-0.json", canonical.dumps(step))
    name = incident(workspace, ref.format(parent=parent, own=own))
    asked = ["quarantine", "release", str(left), "--kept", str(kept), "--out", str(tmp_path / "back"), "--json"]
    assert run(asked) == 1
    assert name[:12] in json.loads(capsys.readouterr().out)["error"]["message"]
    assert run([*asked, "--override-incident", name]) == 2  # no reason
    assert run([*asked, "--override-incident", "0" * 64, "--reason", "why"]) == 1
    assert not (tmp_path / "back").exists()
    capsys.readouterr()
    assert run([*asked, "--override-incident", name[:12], "--reason", "looked at by hand"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["overridden"] == [name]
    sealed = workspace.ledger.get(f"releases/{document['dataset']['digest']}.dsse.json")
    said = unseal(sealed, workspace.keyring, kind="quarantine", role="evaluator")
    assert (said.predicate["action"], said.predicate["reason"]) == ("release", "looked at by hand")
    assert {entry["name"] for entry in said.statement["subject"]} == {"dataset", f"incident/{name}"}
    history = Dataset.load(tmp_path / "back").manifest.history.parameters
    assert history["overridden"] == [name]


def test_an_incident_about_others_or_a_closed_one_stops_nothing_and_cannot_be_overridden(
    workspace: Workspace, parts: tuple[Path, Path], tmp_path: Path
) -> None:
    kept, left = parts
    for ref in ("record:v/b:2", "batch:v/c", "source:x", "record:v/b:55", "model:m/1"):
        incident(workspace, ref)
    closed = incident(workspace, "source:v")
    payload = peek(workspace.ledger.get(f"incidents/{closed}.dsse.json"))
    keyring = workspace.keyring
    Keyring(keyring.keys, revoked=frozenset([canonical.digest(payload)])).save(workspace.keyring_path)
    with pytest.raises(UnfitInput, match="about one of these records"):
        release(left, kept, tmp_path / "back", override=[closed], reason="why")
    assert release(left, kept, tmp_path / "back")["released"] == 3


def test_of_two_incidents_both_have_to_be_overridden_and_untouched_records_come_back_alone(
    workspace: Workspace, parts: tuple[Path, Path], tmp_path: Path
) -> None:
    kept, left = parts
    first, second = incident(workspace, "record:v/b:1"), incident(workspace, "record:v/b:5")
    with pytest.raises(Refused):
        release(left, kept, tmp_path / "a", override=[first], reason="why")
    with pytest.raises(UnfitInput, match="12 digits"):
        release(left, kept, tmp_path / "a", override=[first[:6]], reason="why")
    assert release(left, kept, tmp_path / "a", ids=["w/b:3"])["released"] == 1
    both = release(left, kept, tmp_path / "b", override=[first, second], reason="why")
    assert both["overridden"] == sorted([first, second])


def test_an_incident_that_cannot_be_read_or_a_ledger_that_does_not_answer_stops_a_release(
    workspace: Workspace, parts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, left = parts
    with monkeypatch.context() as patch:
        patch.setattr("assay.ledger.FileLedger.names", lambda *_: (_ for _ in ()).throw(Unreachable("ledger")))
        with pytest.raises(Unreachable):
            release(left, kept, tmp_path / "back")
    workspace.ledger.put(f"incidents/{'a' * 64}.dsse.json", b"{}")
    with pytest.raises(Refused, match="cannot be told"):
        release(left, kept, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_an_override_without_a_key_to_sign_it_releases_nothing(
    workspace: Workspace, parts: tuple[Path, Path], tmp_path: Path
) -> None:
    kept, left = parts
    name = incident(workspace, "source:v")
    (workspace.home / "keys" / "evaluator.pem").unlink()
    with pytest.raises(UnfitInput, match="key of role evaluator"):
        release(left, kept, tmp_path / "back", override=[name], reason="why")
    assert not (tmp_path / "back").exists()


def test_a_purged_quarantine_verifies_by_its_signed_purge(workspace: Workspace, parts: tuple[Path, Path]) -> None:
    purge(parts[1], workspace, reason="asked for", apply=True)
    document = verify(parts[1], workspace.keyring)
    assert document["verified"], document
    assert "purged" in document["reason"]
    manifest = parts[1] / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"records":3', b'"records":2'))
    assert not verify(parts[1], workspace.keyring)["verified"]


# rejected batches


def rejecting(folder: Path, good: bool) -> Path:
    """An ingest of one batch outside its prefix, and one good batch, or none; returns the quarantine."""
    (folder / "in").mkdir()
    for name in ("v", "evil"):
        (folder / "in" / f"{name}.csv").write_text("x,label\n" + "".join(f"{k},{'ab'[k % 2]}\n" for k in range(10)))
    rules = {"v": SourceRule(prefixes=(str(folder / "in" / "v.csv"),), require_signature=False)}
    rules["evil"] = SourceRule(prefixes=(str(folder / "in"),), limits={"rows": 3}, require_signature=False)
    names = ["v", "evil"] if good else ["evil"]
    sources = [SourceConfig(name=name, batch="b", uri=str(folder / "in" / f"{name}.csv")) for name in names]
    places: dict[str, Any] = {"dataset": folder / "d", "quarantine": folder / "q", "calibration": None, "holdout": None}
    try:
        ingest(sources, IngestConfig(sources=rules), **places)
    except Refused:
        assert not good
    return folder / "q"


@pytest.mark.parametrize("good", [True, False], ids=["beside a good one", "alone"])
def test_rejected_batches_are_listed_shown_signed_and_guarded(
    workspace: Workspace, tmp_path: Path, good: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.initialise()
    left = rejecting(tmp_path, good)
    for verb in ("list", "show"):
        assert run(["quarantine", verb, str(left), "--json"]) == 0
        (told,) = json.loads(capsys.readouterr().out)["rejected"]
        assert (told["batch"], told["check"]) == ("evil/b", "content")
        assert run(["quarantine", verb, str(left)]) == 0
        assert "rejected by content" in capsys.readouterr().out
    assert verify(left, workspace.keyring)["verified"]
    aside = left / "rejected" / "evil" / "b" / "data"
    aside.write_text("x,label\n1,a\n")
    (left / "files.json").unlink(missing_ok=True)
    document = verify(left, workspace.keyring)
    assert not document["verified"]
    assert "rejected" in document["reason"]


def test_a_quarantine_of_rejected_batches_alone_has_no_record_to_show_or_release(tmp_path: Path) -> None:
    left = rejecting(tmp_path, good=False)
    with pytest.raises(UnfitInput, match="rejected batches only"):
        quarantine.show(left, ids=["evil/b:0"])
    with pytest.raises(UnfitInput):
        release(left, left, tmp_path / "back")
