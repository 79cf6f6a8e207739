"""Abuse cases and faults of promotion, registry and serving, and the test that answers each.

case  what somebody does, or what breaks                        tests that show the answer
T21   code in a model, an archive, a YAML tag, a loader         security/test_canaries.py::test_no_door_lets_a_canary_sing
                                                                security/test_canaries.py::test_a_folder_made_for_another_loader_is_no_model
T23   metrics and tags edited in MLflow                         unit/test_promote_once.py::test_a_metric_edited_in_mlflow_changes_nothing_and_is_found
                                                                unit/test_promote_once.py::test_the_audit_finds_what_was_edited_in_mlflow
T24   the artifact swapped after evaluation                     security/test_gate_refusals.py::test_a_byte_flipped_in_the_model_is_refused
                                                                unit/test_serving.py::test_a_byte_changed_in_the_store_is_refused_and_the_served_model_stays
                                                                unit/test_serving.py::test_the_copy_is_what_is_hashed_not_the_source
                                                                faults/test_promote_server.py::test_an_artifact_overwritten_on_the_server_is_found
T25   old evidence replayed on another model, target, cluster   security/test_gate_refusals.py::test_evidence_of_one_model_is_refused_for_another
                                                                security/test_gate_refusals.py::test_a_decision_for_another_target_is_refused
                                                                security/test_abuse_promotion.py::test_promotions_copied_to_another_alias_or_installation_serve_nothing
T26   a threshold lowered without review                        security/test_abuse_promotion.py::test_a_policy_that_nobody_reviewed_promotes_and_serves_nothing
T27   rollback and freeze                                       unit/test_promote_rollback.py::test_the_server_follows_a_rollback_and_refuses_the_version_it_left
                                                                unit/test_serving.py::test_a_history_that_ends_before_what_was_seen_is_refused
                                                                unit/test_serving.py::test_a_policy_may_say_how_long_a_model_is_served
                                                                security/test_gate_refusals.py::test_a_promotion_out_of_line_stops_the_chain
T28   two gates promote at once                                 faults/test_promote_faults.py::test_four_processes_promoting_at_once_lose_nothing
                                                                unit/test_promote_once.py::test_a_decision_that_compared_with_a_champion_since_replaced_is_refused
T29   artifacts read or written across namespaces               pipelines/test_manifests.py::test_every_identity_may_do_the_same_little
                                                                pipelines/test_manifests_serving.py::test_a_serving_pod_is_hardened_and_holds_no_private_key
                                                                unit/test_serving.py::test_a_file_added_or_missing_in_the_store_is_refused
T30   an alias set by hand, or to a version without evidence    security/test_abuse_promotion.py::test_an_alias_set_by_hand_serves_nothing_and_is_listed
R5    an output that cannot be written                          faults/test_promote_faults.py::test_an_output_that_cannot_be_written_stops_before_anything_is_done
                                                                unit/test_serving.py::test_what_is_no_model_is_never_replaced
R6    MLflow is down                                            faults/test_promote_faults.py::test_an_mlflow_that_is_not_there_changes_nothing_within_a_bound
                                                                faults/test_mlflow_outbox.py::test_an_unreachable_mlflow_fails_no_step_and_loses_no_record
R7    MLflow errs, is slow, answers half                        faults/test_promote_server.py::test_a_server_that_always_fails_changes_nothing_and_keeps_the_served_model
R8    done, but the reply is lost                               faults/test_promote_server.py::test_a_fault_once_leaves_one_version_and_one_alias
R9    SQLite is locked                                          faults/test_promote_faults.py::test_a_locked_store_is_given_up_within_a_bound_and_nothing_was_done
R13   clocks that are off, or jump                              faults/test_promote_faults.py::test_a_clock_an_hour_off_never_promotes_what_is_not_valid_yet_and_order_is_by_sequence
                                                                security/test_gate_refusals.py::test_a_clock_may_be_a_little_behind
R14   two promotions at once                                    faults/test_promote_faults.py::test_four_processes_promoting_fifty_models_each_lose_nothing
                                                                unit/test_promote_rollback.py::test_a_promotion_that_comes_in_between_is_not_undone
R15   killed between commit, alias and journal                  faults/test_promote_faults.py::test_a_kill_before_any_write_converges
                                                                faults/test_promote_faults.py::test_a_kill_before_any_write_of_a_rollback_converges
                                                                faults/test_promote_faults.py::test_a_kill_before_any_write_of_the_serving_check_leaves_the_old_model_or_the_new
R16   repeated after success                                    unit/test_promote_once.py::test_the_same_measurement_again_is_the_same_promotion
                                                                unit/test_promote_rollback.py::test_a_rollback_asked_again_finds_its_work_done
R22   the measurement was cut short                             security/test_abuse_promotion.py::test_evidence_that_was_cut_short_promotes_nothing
R23   a policy file that is broken                              security/test_parsers_fuzz.py::test_a_mutated_file_is_refused_or_read_and_nothing_else
R24   a key that cannot be read, a key service that is down     faults/test_promote_faults.py::test_a_promoter_key_that_cannot_be_read_promotes_nothing
                                                                faults/test_promote_faults.py::test_a_key_service_that_is_down_promotes_nothing
                                                                security/test_abuse_promotion.py::test_without_a_key_evidence_is_kept_unsigned_and_says_so
"""  # noqa: E501

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from promotion_cases import FLOOR, TARGET, Candidate, policy, state

from assay.audit import audit
from assay.config.root import Target
from assay.errors import Refused
from assay.promotions import history
from assay.registry import TAG, tags_of
from assay.serving import fetch
from assay.signing import peek
from assay.workspace import Workspace

TESTS = Path(__file__).parents[1]
NAMED = re.findall(r"\S+[.]py::\w+", __doc__ or "")


@pytest.mark.parametrize("name", NAMED, ids=lambda name: name.rpartition("::")[2][:60])
def test_every_test_of_the_table_is_there(name: str) -> None:
    file, _, function = name.partition("::")
    assert f"def {function}(" in (TESTS / file).read_text()


def test_the_table_has_every_case_of_this_part() -> None:
    cases = set(re.findall(r"^([TR]\d+) ", __doc__ or "", re.MULTILINE))
    assert cases == {"T21", *(f"T{n}" for n in range(23, 31)), *(f"R{n}" for n in (5, 6, 7, 8, 9, 13, 14, 15, 16)),
                     "R22", "R23", "R24"}  # fmt: skip


@pytest.fixture
def promoted(workspace: Workspace, tmp_path: Path) -> Candidate:
    made = Candidate(workspace, tmp_path / "first")
    made.through()
    return made


def test_promotions_copied_to_another_alias_or_installation_serve_nothing(promoted: Candidate, tmp_path: Path) -> None:
    """Whoever may write to the store copies what was signed for one target, or for one cluster, to another."""
    ledger = promoted.workspace.home / "ledger"
    shutil.copytree(ledger / "promotions" / "digits@champion", ledger / "promotions" / "digits@next")
    with pytest.raises(Refused, match="unbroken chain"):
        fetch(Target(model="digits", alias="next"), tmp_path / "served", registry=False)
    home = tmp_path / "elsewhere"
    elsewhere = replace(
        promoted.workspace,
        home=home,
        ledger_uri=str(home / "ledger"),
        keyring_path=home / "keys.json",
        signer_uris={role: str(home / "keys" / f"{role}.pem") for role in ("evaluator", "promoter")},
    )
    elsewhere.initialise()
    shutil.copytree(ledger, home / "ledger")
    with pytest.raises(Refused, match="signature"):
        fetch(TARGET, tmp_path / "served", workspace=elsewhere, registry=False)
    assert not (tmp_path / "served").exists()


def test_a_policy_that_nobody_reviewed_promotes_and_serves_nothing(workspace: Workspace, tmp_path: Path) -> None:
    """One digit of a threshold is another policy; the key list says which were reviewed."""
    reviewed, lowered = policy(FLOOR), policy(FLOOR | {"value": 0.79})
    candidate = Candidate(workspace, tmp_path / "first")
    keyring = workspace.keyring
    replace(keyring, policies=frozenset({reviewed.digest})).save(workspace.keyring_path)
    candidate.gate(lowered)
    with pytest.raises(Refused, match="reviewed"):
        candidate.promote()
    assert workspace.ledger.names("promotions/") == []
    candidate.gate(reviewed)
    candidate.promote()
    assert fetch(TARGET, tmp_path / "served")["policy"] == reviewed.digest
    replace(keyring, policies=frozenset({lowered.digest})).save(workspace.keyring_path)
    with pytest.raises(Refused, match="reviewed"):
        fetch(TARGET, tmp_path / "served")


def unproven(client: MlflowClient, promoted: Candidate) -> str:
    return str(client.create_model_version("digits", "file:///nowhere").version)


def forged(client: MlflowClient, promoted: Candidate) -> str:
    return str(client.create_model_version("digits", "file:///nowhere", tags={TAG: "0" * 64}).version)


def copied(client: MlflowClient, promoted: Candidate) -> str:
    """The alias at a second version with the true tags: other files, but the bytes come from the ledger alone."""
    (made,) = history(promoted.workspace.ledger, promoted.workspace.keyring, TARGET)
    return str(client.create_model_version("digits", "file:///nowhere", tags=tags_of(made)).version)


@pytest.mark.parametrize("make", [unproven, forged, copied])
def test_an_alias_set_by_hand_serves_nothing_and_is_listed(promoted: Candidate, tmp_path: Path, make: Any) -> None:
    client = MlflowClient(promoted.workspace.tracking_uri)
    version = make(client, promoted)
    client.set_registered_model_alias("digits", "champion", version)
    out = tmp_path / "served"
    if make is copied:
        assert fetch(TARGET, out)["model"]["digest"] == promoted.digest
    else:
        with pytest.raises(Refused, match="audit"):
            fetch(TARGET, out)
        assert not out.exists()
    where = [one["where"] for one in audit(promoted.workspace)["mismatches"]]
    assert "MLflow alias digits@champion" in where
    assert f"MLflow version digits/{version}" in where


def test_an_alias_removed_by_hand_serves_nothing(promoted: Candidate, tmp_path: Path) -> None:
    MlflowClient(promoted.workspace.tracking_uri).delete_registered_model_alias("digits", "champion")
    with pytest.raises(Refused, match="no version"):
        fetch(TARGET, tmp_path / "served")


def test_evidence_that_was_cut_short_promotes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    candidate = Candidate(workspace, tmp_path, truncated=True)
    assert candidate.gate()["decision"] == "inconclusive"
    with pytest.raises(Refused, match="decision"):
        candidate.promote()
    assert state(workspace)["versions"] == {}


def test_without_a_key_evidence_is_kept_unsigned_and_says_so(workspace: Workspace, tmp_path: Path) -> None:
    candidate = Candidate(workspace, tmp_path)
    Path(workspace.signer_uris["evaluator"]).unlink()
    candidate.write_evidence()
    assert peek(candidate.evidence_path.read_bytes())["predicate"]["estimates"]
    answer = candidate.gate()
    assert answer["decision"] == "inconclusive"
    assert [rule["verdict"] for rule in answer["rules"] if rule["rule"] == "signed"] == ["not_measured"]
    with pytest.raises(Refused):
        candidate.promote()
