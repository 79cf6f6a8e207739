"""Trace and contain on a ledger whose story is known: every answer, both ways, and what damage does to it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trace_cases import CHAMPION, Story, environment, promoted, tell

from assay import canonical
from assay.cli.main import run as assay
from assay.contain import TAG, contain, contain_paths
from assay.data.findings import Finding, findings_bytes
from assay.errors import UnfitInput, UnknownName, Unreachable
from assay.incidents import open_incidents
from assay.keyring import Keyring
from assay.registry import Registry
from assay.signing import unseal
from assay.trace import trace
from assay.workspace import Workspace


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return tell(tmp_path_factory.mktemp("story"))


@pytest.fixture
def copy(story: Story, tmp_path: Path) -> Workspace:
    """The story's workspace in a place of its own, to be damaged."""
    home = tmp_path / "copy"
    shutil.copytree(story.workspace.home, home)
    with environment(home) as workspace:
        return workspace


def ask(story: Story, ref: str) -> dict[str, Any]:
    return trace(ref, story.workspace.ledger, story.workspace.keyring)


def reached(document: dict[str, Any], kind: str) -> set[str]:
    return {node["id"] for node in document["nodes"] if node["kind"] == kind and node["side"] != "upstream"}


def above(document: dict[str, Any], kind: str) -> set[str]:
    return {node["id"] for node in document["nodes"] if node["kind"] == kind and node["side"] == "upstream"}


def node(document: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = [one for one in document["nodes"] if one["kind"] == kind]
    return found


REFS = (
    "source:bad",
    "batch:bad/1",
    "record:bad/1:0",
    "record:bad/1:5",
    "record:bad/1:99",
    "source:good",
    "batch:lost/1",
    "source:trusted",
    "run:r1",
    "model:digits/1",
    "alias:digits@champion",
    "alias:digits@canary",
)


def test_an_edge_says_what_the_step_made_of_the_dataset(story: Story) -> None:
    ingested, kept, lost = (f"dataset:{one.manifest.digest}" for one in (story.ingested, story.kept, story.quarantined))
    said = {(edge["from"], edge["to"]): edge["relation"] for edge in ask(story, "batch:bad/1")["edges"]}
    assert (said[ingested, kept], said[ingested, lost]) == ("kept", "quarantine")


@pytest.mark.parametrize("ref", ["source:bad", "batch:bad/1", "record:bad/1:0"])
def test_a_bad_supplier_leads_to_its_models_and_to_those_that_serve_now(story: Story, ref: str) -> None:
    answer = ask(story, ref)
    assert reached(answer, "model") == {f"model:{story.old.digest}", f"model:{story.other.digest}"}
    assert reached(answer, "alias") == {"alias:digits@champion", "alias:digits@canary"}
    (serving,) = answer["reached"]["serving"]
    assert serving == {
        "alias": "alias:digits@canary",
        "model": story.other.digest,
        "version": "digits/2",
        "sequence": 1,
    }
    assert reached(answer, "model_version") == {"model:digits/1", "model:digits/2"}
    assert answer["problems"] == []


def test_a_good_supplier_leads_to_everything(story: Story) -> None:
    answer = ask(story, "source:good")
    assert {one["alias"] for one in answer["reached"]["serving"]} == {"alias:digits@champion", "alias:digits@canary"}
    assert len(answer["reached"]["models"]) == 3


def test_a_record_that_was_taken_out_shows_why_and_no_model(story: Story) -> None:
    answer = ask(story, "record:bad/1:5")
    removed = node(answer, "removed")
    assert (removed["step"], removed["reasons"]) == ("sanitize", {"range: out_of_range": 1})
    assert answer["reached"]["models"] == answer["reached"]["aliases"] == []
    assert f"dataset:{story.quarantined.manifest.digest}" in reached(answer, "dataset")
    (edge,) = [edge for edge in answer["edges"] if edge["to"] == removed["id"]]
    assert edge["from"] == f"dataset:{story.ingested.manifest.digest}"
    assert edge["proof"] == f"findings/{story.kept.manifest.history.findings}.parquet"


def test_a_record_that_no_dataset_ever_held_shows_why(story: Story) -> None:
    answer = ask(story, "record:bad/1:99")
    removed = node(answer, "removed")
    assert (removed["step"], removed["reasons"]) == ("ingest", {"reader: not_a_number": 1})
    assert reached(answer, "dataset") == set()
    assert {"source:bad", "batch:bad/1"} <= {one["id"] for one in answer["nodes"]}


def test_a_batch_that_was_taken_out_whole_reached_no_model(story: Story) -> None:
    answer = ask(story, "batch:lost/1")
    assert node(answer, "removed")["records"] == 2
    assert answer["reached"]["models"] == []


def test_a_flagged_record_is_not_called_removed(story: Story) -> None:
    for ref in ("record:good/1:0", "record:bad/1:0"):
        assert not [one for one in ask(story, ref)["nodes"] if one["kind"] == "removed"]


def test_counts_in_scope_are_those_of_the_record_lists(story: Story) -> None:
    counts = {one["id"]: one["in_scope"] for one in ask(story, "source:bad")["nodes"] if "in_scope" in one}
    assert counts == {
        f"dataset:{story.ingested.manifest.digest}": 6,
        f"dataset:{story.kept.manifest.digest}": 5,
        f"dataset:{story.quarantined.manifest.digest}": 1,
    }


def test_an_alias_leads_back_to_what_it_serves_now_alone(story: Story) -> None:
    answer = ask(story, "alias:digits@champion")
    assert above(answer, "model") == {f"model:{story.new.digest}"}
    assert above(answer, "source") == {"source:good", "source:trusted"}
    assert answer["reached"]["serving"] == [
        {"alias": "alias:digits@champion", "model": story.new.digest, "version": "digits/3", "sequence": 2}
    ]


def test_a_deployment_is_what_its_target_serves(story: Story, copy: Workspace) -> None:
    assert ask(story, "deployment:digits@champion") == ask(story, "alias:digits@champion")
    with pytest.raises(UnfitInput, match="digits@canary, digits@champion"):
        ask(story, "deployment:digits")
    shutil.rmtree(copy.home / "ledger/promotions/digits@canary")
    alone = trace("deployment:digits", copy.ledger, copy.keyring)
    assert alone == trace("alias:digits@champion", copy.ledger, copy.keyring)
    assert (alone["ref"], alone["problems"]) == ("alias:digits@champion", [])


def test_a_version_leads_back_to_its_batches_without_those_taken_out(story: Story) -> None:
    answer = ask(story, "model:digits/1")
    assert above(answer, "batch") == {"batch:bad/1", "batch:good/1", "batch:trusted/1"}
    assert above(answer, "source") == {"source:bad", "source:good", "source:trusted"}
    assert f"dataset:{story.kept.manifest.digest}" in above(answer, "dataset")
    assert f"dataset:{story.quarantined.manifest.digest}" not in above(answer, "dataset")
    assert reached(answer, "alias") == {"alias:digits@champion"}
    assert answer["reached"]["serving"] == []


def test_a_run_leads_to_what_it_made_and_back_to_what_it_read(story: Story) -> None:
    answer = ask(story, "run:r1")
    assert reached(answer, "model") == {f"model:{story.old.digest}", f"model:{story.other.digest}"}
    assert above(answer, "batch") == {"batch:bad/1", "batch:good/1", "batch:lost/1", "batch:trusted/1"}
    assert not [edge for edge in answer["edges"] if edge["relation"] in ("read by sanitize", "read by train")]


def test_a_holdout_leads_to_what_was_decided_on_it(story: Story) -> None:
    answer = ask(story, "source:trusted")
    assert reached(answer, "model") == set()
    assert len(reached(answer, "decision")) == 3
    assert {one["alias"] for one in answer["reached"]["serving"]} == {"alias:digits@champion", "alias:digits@canary"}


@pytest.mark.parametrize("ref", REFS)
def test_every_edge_names_a_document_of_the_ledger(story: Story, ref: str) -> None:
    answer, names = ask(story, ref), set(story.workspace.ledger.names())
    assert answer["edges"]
    assert {edge["proof"] for edge in answer["edges"]} <= names
    assert {edge[end] for edge in answer["edges"] for end in ("from", "to")} == {one["id"] for one in answer["nodes"]}
    assert len({one["id"] for one in answer["nodes"]}) == len(answer["nodes"])


@pytest.mark.parametrize("ref", REFS)
def test_the_answer_is_the_same_twice(story: Story, ref: str) -> None:
    assert canonical.dumps(ask(story, ref)) == canonical.dumps(ask(story, ref))


@pytest.mark.parametrize("kind", ["dataset", "model", "evidence", "decision", "promotion"])
def test_a_digest_may_be_cut_short(story: Story, kind: str) -> None:
    full = sorted(reached(ask(story, "source:good"), kind))[0]
    assert ask(story, full[: len(kind) + 1 + 12])["ref"] == full
    with pytest.raises(UnknownName):
        ask(story, full[: len(kind) + 1 + 5])


@pytest.mark.parametrize(
    ("ref", "near"),
    [("source:bda", "bad"), ("batch:bad/2", "bad/1"), ("alias:digits@champio", "digits@champion"), ("run:r9", "r1"),
     ("model:digits/9", "digits/1"), ("deployment:digit", "digits@champion"), ("sauce:bad", "source")],
)  # fmt: skip
def test_an_unknown_name_is_answered_with_the_nearest(story: Story, ref: str, near: str) -> None:
    with pytest.raises(UnknownName) as error:
        ask(story, ref)
    assert near in error.value.known


@pytest.mark.parametrize(
    "ref", ["", "bad", "source:", "record:bad/1", "record:bad/1:-1", "batch:bad", "source:a/b", "record:bad/1:6"]
)
def test_a_reference_of_another_form_is_refused(story: Story, ref: str) -> None:
    with pytest.raises(UnfitInput):
        ask(story, ref)


# damage


def damage(workspace: Workspace, name: str, data: bytes) -> dict[str, Any]:
    (workspace.home / "ledger" / name).write_bytes(data)
    return trace("source:bad", workspace.ledger, workspace.keyring)


@pytest.mark.parametrize("family", ["manifests", "models", "runs", "findings", "records", "batches", "journal"])
def test_a_document_that_somebody_changed_is_named_and_proves_nothing(
    story: Story, copy: Workspace, family: str
) -> None:
    name = next(name for name in copy.ledger.names(f"{family}/") if name.count("/") < 3 and _touches(story, name))
    data = copy.ledger.get(name)
    changed = data.replace(b"bad", b"odd") if family == "batches" else data.replace(b"v1", b"v2", 1)
    changed = changed if changed != data else data[:-20] + b"x" * 20
    (copy.home / "ledger" / name).write_bytes(changed)
    answer = trace("record:bad/1:5", copy.ledger, copy.keyring)
    assert [problem["name"] for problem in answer["problems"]] == [name]
    if family not in ("records", "batches"):
        assert name not in {edge["proof"] for edge in answer["edges"]}


@pytest.mark.parametrize(
    ("family", "old", "new"),
    [("manifests", b'"step":"sanitize"', b'"step":"sanitise"'), ("models", None, b"0" * 64), ("findings", None, None),
     ("runs", b'"context":""', b'"context":"?"')],
)  # fmt: skip
def test_a_document_changed_with_care_is_named_too(
    story: Story, copy: Workspace, family: str, old: bytes | None, new: bytes | None
) -> None:
    """It still parses and has the right schema; only its name, or the file it sums up, gives the change away."""
    name = next(name for name in copy.ledger.names(f"{family}/") if name.count("/") < 3 and _touches(story, name))
    data = copy.ledger.get(name)
    if family == "findings":
        changed = findings_bytes([Finding("lost/1:0", "duplicate", 1.0, "copy", "quarantine")])
    else:
        changed = data.replace(old or _trained_on(data), new or b"")
    assert changed != data
    (copy.home / "ledger" / name).write_bytes(changed)
    answer = trace("record:bad/1:5", copy.ledger, copy.keyring)
    assert [problem["name"] for problem in answer["problems"]] == [name]


def test_a_model_folder_that_says_something_else_is_named(story: Story, copy: Workspace) -> None:
    name = f"models/{story.old.digest}/model.json"
    data = copy.ledger.get(name)
    (copy.home / "ledger" / name).write_bytes(data.replace(_trained_on(data), b"0" * 64))
    answer = trace("source:bad", copy.ledger, copy.keyring)
    assert [problem["name"] for problem in answer["problems"]] == [f"models/{story.old.digest}.json"]


def test_a_model_whose_files_were_exchanged_is_named(story: Story, copy: Workspace) -> None:
    """The record lists other weights, or model.json says another method: the dataset stays, the name does not fit."""
    record, spec = f"models/{story.old.digest}.json", f"models/{story.old.digest}/model.json"
    for name, old, new in ((record, canonical.sha256(b"old"), "0" * 64), (spec, "cross_entropy", "huber")):
        data = copy.ledger.get(name)
        assert old.encode() in data
        answer = damage(copy, name, data.replace(old.encode(), new.encode()))
        assert [problem["name"] for problem in answer["problems"]] == [record]
        (copy.home / "ledger" / name).write_bytes(data)


def test_a_model_record_under_another_models_name_is_named(story: Story, copy: Workspace) -> None:
    other = copy.ledger.get(f"models/{story.new.digest}.json")
    answer = damage(copy, f"models/{story.old.digest}.json", other)
    assert [problem["name"] for problem in answer["problems"]] == [f"models/{story.old.digest}.json"]


def _trained_on(data: bytes) -> bytes:
    document = canonical.loads(data)
    return str(document.get("dataset") or document["trained"]["dataset"]).encode()


def _touches(story: Story, name: str) -> bool:
    """Whether a name is of the documents that a trace of bad/1:5 reads."""
    wanted = {
        "manifests": story.kept.manifest.digest,
        "findings": story.kept.manifest.history.findings,
        "records": story.ingested.manifest.content_digest,
        "batches": "bad/1",
        "models": story.old.digest,
    }
    return wanted.get(name.partition("/")[0], "") in name


def test_a_record_list_that_was_thinned_hides_no_model(story: Story, copy: Workspace) -> None:
    """The list of the training records is replaced by that of another dataset: the record may be there, and is kept."""
    other = copy.ledger.get(f"records/{story.clean.manifest.content_digest}.parquet")
    (copy.home / "ledger" / f"records/{story.kept.manifest.content_digest}.parquet").write_bytes(other)
    answer = trace("record:bad/1:0", copy.ledger, copy.keyring)
    assert f"model:{story.old.digest}" in reached(answer, "model")
    assert [problem["name"] for problem in answer["problems"]] == [
        f"records/{story.kept.manifest.content_digest}.parquet"
    ]


def test_a_manifest_that_is_gone_is_named_and_hides_no_model(story: Story, copy: Workspace) -> None:
    name = f"manifests/{story.ingested.manifest.digest}.json"
    (copy.home / "ledger" / name).unlink()
    answer = trace("source:bad", copy.ledger, copy.keyring)
    assert {f"model:{story.old.digest}", f"model:{story.other.digest}"} <= reached(answer, "model")
    assert [problem["name"] for problem in answer["problems"]] == [name]


def test_a_training_manifest_that_is_gone_is_named(story: Story, copy: Workspace) -> None:
    name = f"manifests/{story.kept.manifest.digest}.json"
    (copy.home / "ledger" / name).unlink()
    answer = trace("source:bad", copy.ledger, copy.keyring)
    assert [problem["name"] for problem in answer["problems"]] == [name]


def test_a_forged_evidence_id_is_a_problem(copy: Workspace) -> None:
    first, second = copy.ledger.names("evidence/")[:2]
    answer = damage(copy, first, copy.ledger.get(second))
    assert [problem["name"] for problem in answer["problems"]] == [first]


def test_a_promotion_moved_to_another_target_is_a_problem(copy: Workspace) -> None:
    name = copy.ledger.names("promotions/digits@champion/")[0]
    answer = damage(copy, "promotions/digits@canary/00000001.dsse.json", copy.ledger.get(name))
    assert [problem["name"] for problem in answer["problems"]] == ["promotions/digits@canary/00000001.dsse.json"]


def test_without_the_keys_the_edges_stay_and_say_that_nobody_vouches(story: Story) -> None:
    answer = trace("source:bad", story.workspace.ledger, Keyring())
    signed = [one for one in answer["nodes"] if one["kind"] in ("evidence", "decision", "promotion", "alias")]
    assert signed
    assert not any(one["verified"] for one in signed)
    assert [one["alias"] for one in answer["reached"]["serving"]] == ["alias:digits@canary"]


def test_with_the_keys_every_signed_node_is_verified(story: Story) -> None:
    assert all(one.get("verified", True) for one in ask(story, "source:bad")["nodes"])


def test_an_empty_ledger_knows_nothing(workspace: Workspace) -> None:
    with pytest.raises(UnknownName):
        trace("source:bad", workspace.ledger, Keyring())


# the verbs


def test_the_verb_answers_for_scripts_and_for_people(
    story: Story, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(story.workspace.home))
    assert assay(["trace", "source:bad", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {"id", "kind"} <= set(answer["nodes"][0])
    assert {"from", "to", "proof"} <= set(answer["edges"][0])
    assert assay(["trace", "source:bad"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "serving now: alias:digits@canary at digits/2, promotion 1"
    assert lines[-1] == "2 model(s), 2 version(s), 2 alias(es) reached"
    assert assay(["trace", "source:bda"]) == 2


def test_the_verb_says_that_a_damaged_ledger_cannot_be_trusted_to_be_whole(
    copy: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = copy.ledger.names("manifests/")[0]
    (copy.home / "ledger" / name).write_bytes(b"{}")
    monkeypatch.setenv("ASSAY_HOME", str(copy.home))
    assert assay(["trace", "source:good"]) == 3
    assert f"does not hold: {name}" in capsys.readouterr().err
    assert assay(["contain", "source:good"]) == 3


# contain


def test_contain_lists_what_is_affected_and_where_to_go_back_to(story: Story) -> None:
    answer = contain("source:bad", story.workspace)
    assert answer["models"] == sorted([story.old.digest, story.other.digest])
    assert answer["versions"] == ["digits/1", "digits/2"]
    assert [one["alias"] for one in answer["serving"]] == ["alias:digits@canary"]
    assert answer["serving"][0]["rollback"] is None
    assert (answer["applied"], answer["incident"]) == (False, "")
    assert story.workspace.ledger.names("incidents/") == []


def test_the_rollback_is_the_last_promotion_that_is_not_affected(story: Story) -> None:
    (serving,) = contain(f"model:{story.new.digest}", story.workspace)["serving"]
    assert serving["rollback"] == {"version": "digits/1", "model": story.old.digest, "sequence": 1}


def test_the_way_back_skips_every_affected_promotion(story: Story, copy: Workspace, tmp_path: Path) -> None:
    """Sequence 3 is good, 4 and 5 learned from the bad supplier: from 5 the way leads to 3, not to 4, 2 or 1."""
    with environment(copy.home):
        for name, data in (("third", story.clean), ("fourth", story.kept), ("fifth", story.kept)):
            last = promoted(copy, tmp_path / name, data, story.holdout, CHAMPION, "r3")
        (champion,) = (one for one in contain("source:bad", copy)["serving"] if one["alias"] == "alias:digits@champion")
    assert (champion["model"], champion["sequence"], champion["rollback"]["sequence"]) == (last.digest, 5, 3)


@pytest.mark.parametrize("ref", ["model:digits/3", "alias:digits@champion"])
def test_a_version_or_alias_stands_for_the_model_behind_it(story: Story, ref: str) -> None:
    answer = contain(ref, story.workspace)
    assert (answer["ref"], answer["models"], answer["versions"]) == (ref, [story.new.digest], ["digits/3"])


def test_what_reached_no_model_yet_is_named_all_the_same(copy: Workspace) -> None:
    answer = contain("batch:lost/1", copy, apply=True)
    assert (answer["models"], answer["serving"], answer["applied"]) == ([], [], True)
    assert [incident.ref for incident in open_incidents(copy.ledger, copy.keyring)] == ["batch:lost/1"]


def test_apply_signs_an_incident_and_marks_the_versions_once(story: Story, copy: Workspace) -> None:
    before = Registry(copy).aliases("digits")
    first = contain("source:bad", copy, apply=True, reason="the vendor called")
    again = contain("source:bad", copy, apply=True, reason="the vendor called")
    assert first == again
    (name,) = copy.ledger.names("incidents/")
    assert name == f"incidents/{first['incident']}.dsse.json"
    opened = unseal(copy.ledger.get(name), copy.keyring, kind="incident", role="evaluator")
    assert opened.predicate["reason"] == "the vendor called"
    assert {entry["name"] for entry in opened.statement["subject"]} == {
        "batch/bad/1",
        *(f"model/{digest}" for digest in first["models"]),
    }
    tags = {str(version.version): version.tags.get(TAG) for version in Registry(copy).all_versions("digits")}
    assert tags == {"1": first["incident"], "2": first["incident"], "3": None}
    assert Registry(copy).aliases("digits") == before
    facts = {one["id"]: one.get("incidents") for one in trace("source:good", copy.ledger, copy.keyring)["nodes"]}
    assert facts[f"model:{story.old.digest}"] == [first["incident"]]
    assert facts[f"model:{story.new.digest}"] is None


def test_a_second_incident_stands_beside_the_first_and_blocks_the_way_back(story: Story, copy: Workspace) -> None:
    first = contain(f"model:{story.old.digest}", copy, apply=True)
    second = contain("record:good/1:1", copy, apply=True)
    assert {one["rollback"] and one["rollback"]["sequence"] for one in second["serving"]} == {None}
    version = next(one for one in Registry(copy).all_versions("digits") if str(one.version) == "1")
    assert version.tags[TAG] == f"{first['incident']},{second['incident']}"
    (serving,) = contain(f"model:{story.new.digest}", copy)["serving"]
    assert serving["rollback"] is None


@pytest.mark.parametrize(
    ("ref", "action"), [("source:bad", "retrain"), ("model:digits/1", "investigate"), ("batch:lost/1", "continue")]
)
def test_the_step_says_what_the_incident_calls_for(copy: Workspace, tmp_path: Path, ref: str, action: str) -> None:
    findings, summary = tmp_path / "findings.json", tmp_path / "summary.md"
    with environment(copy.home):
        assert contain_paths(ref, "the vendor called", str(findings), str(summary), "r9") == action
    document = json.loads(findings.read_bytes())
    assert (document["ref"], document["action"], document["applied"]) == (ref, action, True)
    assert summary.read_text().startswith(f"# {action}: {ref}\n")
    assert [name.split("-")[0] for name in copy.ledger.names("runs/r9/")] == ["runs/r9/contain"]


def test_without_a_key_nothing_is_put_on_record(copy: Workspace) -> None:
    (copy.home / "keys" / "evaluator.pem").unlink()
    with pytest.raises(UnfitInput, match="evaluator"):
        contain("source:bad", copy, apply=True)
    assert copy.ledger.names("incidents/") == []


def test_without_mlflow_the_incident_is_on_record_and_the_same_command_finishes(copy: Workspace) -> None:
    away = replace(copy, tracking_uri="sqlite:////proc/nowhere/mlflow.db")
    with pytest.raises((Unreachable, OSError)):
        contain("source:bad", away, apply=True)
    assert len(copy.ledger.names("incidents/")) == 1
    assert contain("source:bad", copy, apply=True)["applied"]
    assert len(copy.ledger.names("incidents/")) == 1


@pytest.mark.parametrize(("more", "code"), [([], 1), (["--apply"], 0)])
def test_the_verb_contain_leaves_with_what_it_found(
    copy: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: list[str], code: int
) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(copy.home))
    assert assay(["contain", "source:bad", *more]) == code
    assert "serving now: alias:digits@canary at digits/2" in capsys.readouterr().out
    assert assay(["contain", "batch:lost/1", *more]) == 0
    assert "no model learned from it" in capsys.readouterr().out
