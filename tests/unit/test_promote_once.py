"""Promotion: once, in one order, with MLflow as its copy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from promotion_cases import FLOOR, NO_WORSE, TARGET, Candidate, against_champion, policy, state

from assay import canonical
from assay.audit import audit
from assay.config.root import Target
from assay.errors import Refused
from assay.promotions import champion, history, name_of, targets
from assay.reconcile import reconcile
from assay.registry import TAG, Registry, tags_of
from assay.signing import unseal
from assay.workspace import Workspace


def client(workspace: Workspace) -> MlflowClient:
    return MlflowClient(workspace.tracking_uri)


def two(workspace: Workspace, folder: Path) -> tuple[Candidate, Candidate]:
    """Two promoted models, the second the champion."""
    first = Candidate(workspace, folder / "first")
    first.through()
    second = Candidate(workspace, folder / "second", b"second", **against_champion(first.digest))
    second.through(policy(FLOOR, NO_WORSE))
    return first, second


def test_a_promotion_makes_one_version_one_alias_and_one_signed_record(workspace: Workspace, tmp_path: Path) -> None:
    candidate = Candidate(workspace, tmp_path)
    candidate.gate()
    answer = candidate.promote(promotion=tmp_path / "promotion.dsse.json", summary=tmp_path / "summary.md")
    assert {key: answer[key] for key in ("promoted", "model", "version", "alias", "sequence", "evidence", "head")} == {
        "promoted": True,
        "model": "digits",
        "version": "1",
        "alias": "champion",
        "sequence": 1,
        "evidence": candidate.evidence.id,
        "head": 1,
    }
    stored = workspace.ledger.get(name_of(TARGET, 1))
    assert stored == (tmp_path / "promotion.dsse.json").read_bytes()
    opened = unseal(stored, workspace.keyring, kind="promotion", role="promoter")
    assert opened.predicate["target"] == TARGET.to_json()
    (promoted,) = history(workspace.ledger, workspace.keyring, TARGET)
    assert state(workspace)["versions"] == {"1": tags_of(promoted)}
    assert state(workspace)["aliases"] == {"champion": "1"}
    journal = canonical.loads(workspace.ledger.get("journal/digits@champion/00000001.json"))
    assert (journal["version"], journal["promotion"]) == ("1", answer["promotion"])
    assert answer["promotion"] in (tmp_path / "summary.md").read_text()


def test_the_version_points_at_the_bytes_that_were_measured(workspace: Workspace, tmp_path: Path) -> None:
    candidate = Candidate(workspace, tmp_path)
    candidate.through()
    (version,) = Registry(workspace).all_versions("digits")
    (candidate.model / "weights.safetensors").write_bytes(b"other weights afterwards")
    assert canonical.tree_digest(canonical.tree_files(str(version.source))) == candidate.digest


def test_the_same_measurement_again_is_the_same_promotion(workspace: Workspace, tmp_path: Path) -> None:
    candidate = Candidate(workspace, tmp_path / "first")
    first = candidate.through()
    before = state(workspace)
    assert candidate.promote() == first
    again = Candidate(workspace, tmp_path / "again", run=candidate.evidence.run | {"host": "another"})
    assert again.through() == first
    assert state(workspace) == before


def test_a_second_model_follows_the_first(workspace: Workspace, tmp_path: Path) -> None:
    first, second = two(workspace, tmp_path)
    promotions = history(workspace.ledger, workspace.keyring, TARGET)
    assert [(made.sequence, made.model) for made in promotions] == [(1, first.digest), (2, second.digest)]
    assert promotions[1].previous == promotions[0].id
    assert state(workspace)["aliases"] == {"champion": "2"}
    assert champion(promotions, besides="") == second.digest
    assert champion(promotions, besides=second.digest) == first.digest
    assert champion(promotions[:1], besides=first.digest) == ""


def test_promoting_the_older_measurement_again_leaves_the_alias_at_the_newer(
    workspace: Workspace, tmp_path: Path
) -> None:
    first, _ = two(workspace, tmp_path)
    before = state(workspace)
    answer = first.promote()
    assert (answer["sequence"], answer["version"], answer["head"]) == (1, "1", 2)
    assert state(workspace) == before


def test_a_decision_that_compared_with_a_champion_since_replaced_is_refused(
    workspace: Workspace, tmp_path: Path
) -> None:
    first = Candidate(workspace, tmp_path / "first")
    first.through()
    rules = policy(FLOOR, NO_WORSE)
    slow, fast = (
        Candidate(workspace, tmp_path / name, name.encode(), **against_champion(first.digest))
        for name in ("slow", "fast")
    )
    assert [one.gate(rules)["decision"] for one in (slow, fast)] == ["promote", "promote"]
    fast.promote()
    before = state(workspace)
    with pytest.raises(Refused, match="champion"):
        slow.promote()
    assert state(workspace) == before


def test_an_alias_set_late_never_undoes_a_later_promotion(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading the ledger and setting the alias, another promotion goes all the way: the alias ends there."""
    slow, fast = (Candidate(workspace, tmp_path / name, name.encode()) for name in ("slow", "fast"))
    slow.gate()
    fast.gate()
    point = Registry.point

    def overtaken(self: Registry, promotion: Any, version: str) -> None:
        monkeypatch.setattr(Registry, "point", point)
        assert fast.promote()["sequence"] == 2
        assert state(workspace)["aliases"] == {"champion": "2"}
        point(self, promotion, version)

    monkeypatch.setattr(Registry, "point", overtaken)
    answer = slow.promote()
    assert (answer["sequence"], answer["head"]) == (1, 2)
    assert state(workspace)["aliases"] == {"champion": "2"}


def test_targets_do_not_touch_each_other(workspace: Workspace, tmp_path: Path) -> None:
    other = Target(model="digits", alias="next")
    candidate = Candidate(workspace, tmp_path)
    candidate.through()
    candidate.gate(target=other)
    answer = candidate.promote(target=other)
    assert (answer["sequence"], answer["version"]) == (1, "2")
    assert targets(workspace.ledger) == [TARGET, other]
    assert state(workspace)["aliases"] == {"champion": "1", "next": "2"}
    assert audit(workspace)["mismatches"] == []


def test_a_version_left_by_a_lost_reply_is_found_again(workspace: Workspace, tmp_path: Path) -> None:
    """MLflow created the version twice, as it does when a create is repeated: the lowest stays."""
    candidate = Candidate(workspace, tmp_path)
    candidate.through()
    (promoted,) = history(workspace.ledger, workspace.keyring, TARGET)
    client(workspace).create_model_version("digits", "file:///nowhere", tags=tags_of(promoted))
    assert len(state(workspace)["versions"]) == 2
    assert candidate.promote()["version"] == "1"
    assert list(state(workspace)["versions"]) == ["1"]


# ---------------------------------------------------------------- what others do to MLflow


def test_nothing_is_found_where_nothing_was_changed(workspace: Workspace, tmp_path: Path) -> None:
    two(workspace, tmp_path)
    assert audit(workspace) == {"mismatches": [], "checked": {"promotions": 2, "versions": 2, "aliases": 1}}
    assert reconcile(workspace) == {"finished": [], "moved": []}


def where(workspace: Workspace) -> list[str]:
    return [one["where"] for one in audit(workspace)["mismatches"]]


def test_an_alias_moved_by_hand_is_found_and_restored_only_when_asked(workspace: Workspace, tmp_path: Path) -> None:
    two(workspace, tmp_path)
    client(workspace).set_registered_model_alias("digits", "champion", "1")
    assert where(workspace) == ["MLflow alias digits@champion"]
    moved = {"target": "digits@champion", "got": "1", "need": "2", "restored": False}
    assert reconcile(workspace) == {"finished": [], "moved": [moved]}
    assert state(workspace)["aliases"] == {"champion": "1"}
    assert reconcile(workspace, restore=True)["moved"] == [moved | {"restored": True}]
    assert state(workspace)["aliases"] == {"champion": "2"}
    assert where(workspace) == []


def tag(edited: MlflowClient) -> None:
    edited.set_model_version_tag("digits", "2", "assay.evidence", "0" * 64)


def stray_alias(edited: MlflowClient) -> None:
    edited.set_registered_model_alias("digits", "blessed", "1")


def no_alias(edited: MlflowClient) -> None:
    edited.delete_registered_model_alias("digits", "champion")


def stray_version(edited: MlflowClient) -> None:
    edited.create_model_version("digits", "file:///nowhere")


def forged_version(edited: MlflowClient) -> None:
    edited.create_model_version("digits", "file:///nowhere", tags={TAG: "0" * 64})


def no_version(edited: MlflowClient) -> None:
    edited.delete_model_version("digits", "1")


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (tag, "MLflow version digits/2: tag assay.evidence"),
        (stray_alias, "MLflow alias digits@blessed"),
        (no_alias, "MLflow alias digits@champion"),
        (stray_version, "MLflow version digits/3"),
        (forged_version, "MLflow version digits/3"),
        (no_version, "MLflow digits"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_audit_finds_what_was_edited_in_mlflow(workspace: Workspace, tmp_path: Path, edit: Any, found: str) -> None:
    two(workspace, tmp_path)
    edit(client(workspace))
    assert where(workspace) == [found]


def test_the_audit_finds_bytes_changed_in_the_ledger(workspace: Workspace, tmp_path: Path) -> None:
    first, second = two(workspace, tmp_path)
    root = workspace.home / "ledger"
    (root / "models" / second.digest / "weights.safetensors").write_bytes(b"evil")
    assert where(workspace) == [f"ledger models/{second.digest[:12]}", "MLflow version digits/2: files"]
    path = root / name_of(TARGET, 1)
    path.write_bytes(path.read_bytes()[:-40] + b"A" * 40)
    assert where(workspace)[0] == "ledger promotions/digits@champion"
    assert first.digest != second.digest


def test_the_audit_finds_names_planted_in_the_ledger(workspace: Workspace, tmp_path: Path) -> None:
    two(workspace, tmp_path)
    workspace.ledger.put("promotions/anything/00000001.dsse.json", b"{}")
    assert where(workspace) == ["ledger promotions/anything"]
    workspace.ledger.put("promotions/digits@champion/stray", b"{}")
    assert "ledger promotions/digits@champion" in where(workspace)


def test_a_metric_edited_in_mlflow_changes_nothing_and_is_found(workspace: Workspace, tmp_path: Path) -> None:
    """The run of evaluate shows other numbers than were signed: the decision does not look, the audit does."""
    run = {"run_id": "run-1"}
    candidate = Candidate(workspace, tmp_path)
    candidate.evidence = replace(candidate.evidence, run=candidate.evidence.run | run)
    candidate.write_evidence()
    decided = candidate.gate()
    candidate.promote()
    mlflow = client(workspace)
    experiment = mlflow.create_experiment("assay", (tmp_path / "artifacts").as_uri())
    shown = mlflow.create_run(experiment, tags={"assay.run": "run-1", "assay.step": "evaluate"}).info.run_id
    for name, measured in candidate.evidence.estimates.items():
        mlflow.log_metric(shown, name, measured.value)
    assert where(workspace) == []
    mlflow.log_metric(shown, "clean_accuracy", 0.99)
    assert candidate.gate()["decision_id"] == decided["decision_id"]
    assert where(workspace) == ["MLflow run of run-1: metric clean_accuracy"]
