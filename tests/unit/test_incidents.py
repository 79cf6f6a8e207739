"""A model that an open incident reaches is neither promoted, nor gone back to, nor served."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from lineage_cases import dataset
from promotion_cases import Candidate, state
from trace_cases import CANARY, CHAMPION, Story, decided, environment, tell

from assay import lineage
from assay.contain import contain
from assay.errors import Refused
from assay.evidence import payload_id
from assay.incidents import open_incidents, require_clear, require_unaffected
from assay.rollback import rollback
from assay.serving import fetch
from assay.signing import payload_digest, seal, statement
from assay.workspace import Workspace


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return tell(tmp_path_factory.mktemp("story"))


@pytest.fixture
def copy(story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The story's workspace in a place of its own, which the environment names."""
    home = tmp_path / "copy"
    shutil.copytree(story.workspace.home, home)
    monkeypatch.setenv("ASSAY_HOME", str(home))
    with environment(home) as workspace:
        return workspace


def incident(workspace: Workspace, ref: str, *models: str) -> str:
    """A signed incident put into the ledger; returns its name."""
    subjects = {f"model/{digest}": digest for digest in models}
    document = statement("incident", subjects, {"ref": ref, "reason": "", "run": {}})
    name = f"incidents/{payload_id(document)}.dsse.json"
    workspace.ledger.put(name, seal(document, workspace.signers("evaluator")))
    return name


def reaches(workspace: Workspace, story: Story, data: str) -> bool:
    """Whether an incident reaches a model of today that learned from a dataset."""
    try:
        require_unaffected("f" * 64, [data], workspace.ledger, workspace.keyring)
    except Refused:
        return True
    return False


CASES = [
    ("batch:bad/1", True, False),
    ("source:bad", True, False),
    ("source:ba", False, False),
    ("batch:good/1", True, True),
    ("record:bad/1:1", True, False),
    ("record:bad/1:5", False, False),
    ("batch:lost/1", False, False),
    ("model:digits/1", False, False),
    ("run:r2", False, True),
    ("run:r1", True, False),
]


@pytest.mark.parametrize(("ref", "kept", "clean"), CASES, ids=[case[0] for case in CASES])
def test_an_incident_reaches_models_trained_later_on_what_it_names(
    copy: Workspace, story: Story, ref: str, kept: bool, clean: bool
) -> None:
    """``kept`` holds bad/1 but for its record 5, and good/1, and nothing of lost/1; ``clean`` holds good/1 alone."""
    incident(copy, ref)
    found = [reaches(copy, story, data.manifest.digest) for data in (story.kept, story.clean)]
    assert found == [kept, clean]


def test_an_incident_about_a_dataset_reaches_what_was_made_from_it(copy: Workspace, story: Story) -> None:
    incident(copy, f"dataset:{story.ingested.manifest.digest}")
    assert reaches(copy, story, story.kept.manifest.digest)
    assert not reaches(copy, story, story.clean.manifest.digest)


def test_an_incident_names_models_whatever_they_learned_from(copy: Workspace, story: Story) -> None:
    incident(copy, "model:digits/1", story.new.digest)
    with pytest.raises(Refused, match="incident"):
        require_unaffected(story.new.digest, [], copy.ledger, copy.keyring)
    require_unaffected(story.old.digest, [], copy.ledger, copy.keyring)


def test_an_incident_is_closed_by_revoking_its_payload(copy: Workspace, story: Story) -> None:
    name = incident(copy, "batch:bad/1")
    assert reaches(copy, story, story.kept.manifest.digest)
    closed = frozenset({payload_digest(copy.ledger.get(name))})
    replace(copy.keyring, revoked=closed).save(copy.keyring_path)
    assert not reaches(copy, story, story.kept.manifest.digest)
    assert list(open_incidents(copy.ledger, copy.keyring)) == []


@pytest.mark.parametrize("data", [b"", b"{}", b"not an envelope"])
def test_an_incident_that_cannot_be_read_stops_everything(copy: Workspace, story: Story, data: bytes) -> None:
    copy.ledger.put("incidents/planted.dsse.json", data)
    assert reaches(copy, story, story.clean.manifest.digest)


@pytest.mark.parametrize(("ref", "stops"), [("batch:good/1", True), ("batch:none/1", False)])
def test_an_incident_that_nobody_signed_counts_for_what_it_is_about_until_it_is_revoked(
    copy: Workspace, story: Story, ref: str, stops: bool
) -> None:
    document = statement("incident", {}, {"ref": ref, "run": {}})
    data = seal(document)
    copy.ledger.put(f"incidents/{payload_id(document)}.dsse.json", data)
    assert reaches(copy, story, story.clean.manifest.digest) is stops
    replace(copy.keyring, revoked=frozenset({payload_digest(data)})).save(copy.keyring_path)
    assert not reaches(copy, story, story.clean.manifest.digest)


def test_an_incident_under_another_name_stops_everything(copy: Workspace, story: Story) -> None:
    """Whoever rewrites an incident to be about something else does not free what it was about."""
    data = seal(statement("incident", {}, {"ref": "batch:none/1", "run": {}}), copy.signers("evaluator"))
    copy.ledger.put(f"incidents/{'e' * 64}.dsse.json", data)
    assert reaches(copy, story, story.clean.manifest.digest)
    with pytest.raises(Refused, match="may be about"):
        require_clear("any", "1", open_incidents(copy.ledger, copy.keyring))


def test_a_list_of_records_that_was_exchanged_clears_no_record(copy: Workspace, story: Story) -> None:
    """bad/1:5 was taken out before; a list that the manifest does not bind says nothing about that."""
    incident(copy, "record:bad/1:5")
    data = story.kept
    assert not reaches(copy, story, data.manifest.digest)
    other = data.table.select(["batch", "row"]).slice(1)
    path = copy.home / "ledger" / "records" / f"{data.manifest.content_digest}.parquet"
    pq.write_table(other, path)
    assert reaches(copy, story, data.manifest.digest)


def test_training_data_that_the_ledger_lost_cannot_be_cleared(copy: Workspace, story: Story) -> None:
    require_unaffected("f" * 64, ["e" * 64], copy.ledger, copy.keyring)
    incident(copy, "batch:bad/1")
    assert reaches(copy, story, "e" * 64)
    (copy.home / "ledger" / "manifests" / f"{story.kept.manifest.digest}.json").write_bytes(b"{}")
    assert reaches(copy, story, story.kept.manifest.digest)


def test_a_contained_batch_stops_promotion_rollback_and_serving(copy: Workspace, story: Story, tmp_path: Path) -> None:
    out = tmp_path / "served"
    assert fetch(CANARY, out)["model"]["digest"] == story.other.digest
    with lineage.step("ingest", "r3", copy) as record:
        later = dataset({"bad/1": 6, "good/1": 6, "good/2": 3})
        record.makes(later, "training")
    waiting = decided(copy, tmp_path / "later", later, story.holdout, CANARY, "r3")
    contain("batch:bad/1", copy, apply=True, reason="tampered")
    with pytest.raises(Refused, match="batch:bad/1"):
        fetch(CANARY, out)
    with pytest.raises(Refused, match="batch:bad/1"):
        rollback(CHAMPION, 1, reason="why")
    before = state(copy)
    with pytest.raises(Refused, match="batch:bad/1"):
        waiting.promote(CANARY)
    after = state(copy)
    assert (after["versions"], after["aliases"]) == (before["versions"], before["aliases"])
    assert fetch(CHAMPION, tmp_path / "champion")["model"]["digest"] == story.new.digest


@pytest.mark.parametrize("ref", ["batch:trusted/1", "record:trusted/1:2", "source:trusted"])
def test_an_incident_about_the_hold_out_stops_what_was_measured_on_it(
    copy: Workspace, story: Story, tmp_path: Path, ref: str
) -> None:
    """Between decision and promotion, before a rollback, and while it is served."""
    waiting = decided(copy, tmp_path / "later", story.clean, story.holdout, CANARY, "r3")
    incident(copy, ref)
    with pytest.raises(Refused, match=ref):
        waiting.promote(CANARY)
    with pytest.raises(Refused, match=ref):
        rollback(CHAMPION, 1, reason="why")
    with pytest.raises(Refused, match=ref):
        fetch(CHAMPION, tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_a_model_without_training_data_in_the_ledger_is_judged_by_what_incidents_list(
    workspace: Workspace, tmp_path: Path
) -> None:
    workspace.initialise()
    holdout = dataset({"trusted/1": 4}, role="holdout")
    lineage.put_dataset(workspace.ledger, holdout)
    candidate = Candidate(workspace, tmp_path, subjects={"dataset": "", "holdout": holdout.manifest.digest})
    incident(workspace, "batch:bad/1")
    assert candidate.through()["promoted"] is True


OTHER_WAYS = [pytest.param(ref, marks=pytest.mark.slow) for ref in ("record:elsewhere/1:2", "source:elsewhere")]


@pytest.mark.parametrize("ref", ["batch:elsewhere/1", *OTHER_WAYS])
def test_an_incident_about_a_named_set_stops_what_was_measured_with_it(
    copy: Workspace, story: Story, tmp_path: Path, ref: str
) -> None:
    """Canaries, records to fit a temperature on: the gate hears of it, promotion and serving refuse."""
    canaries = dataset({"elsewhere/1": 4}, role="holdout")
    lineage.put_dataset(copy.ledger, canaries)
    promoted = decided(copy, tmp_path / "later", story.clean, story.holdout, CANARY, "r3")
    sets = {"sets": {"canaries": {"manifest": canaries.manifest.digest, "records": 4}}}
    promoted.evidence = replace(promoted.evidence, measured=promoted.evidence.measured | sets)
    promoted.write_evidence()
    assert promoted.gate(target=CANARY)["decision"] == "promote"
    incident(copy, "record:elsewhere/1:9")  # a record that is not in the set
    assert promoted.promote(CANARY)["promoted"] is True
    assert fetch(CANARY, tmp_path / "served")["model"]["digest"] == promoted.digest
    incident(copy, ref)
    with pytest.raises(Refused, match=ref):
        fetch(CANARY, tmp_path / "again")
    with pytest.raises(Refused, match=ref):
        promoted.promote(CANARY)
    assert fetch(CHAMPION, tmp_path / "champion")["model"]["digest"] == story.new.digest, "measured without it"


def test_a_set_that_the_ledger_lacks_cannot_be_cleared(copy: Workspace, story: Story, tmp_path: Path) -> None:
    """As training records that the ledger lost: while an incident is open, it may be about them."""
    promoted = decided(copy, tmp_path / "later", story.clean, story.holdout, CANARY, "r3")
    sets = {"sets": {"canaries": {"manifest": "9" * 64}}}
    promoted.evidence = replace(promoted.evidence, measured=promoted.evidence.measured | sets)
    promoted.write_evidence()
    assert promoted.gate(target=CANARY)["decision"] == "promote"
    incident(copy, "batch:bad/1")
    with pytest.raises(Refused, match="cannot be looked up: the ledger lacks dataset 9999"):
        promoted.promote(CANARY)
