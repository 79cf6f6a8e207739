"""Nothing is promoted on evidence that is forged, replayed, expired, edited, or about something else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from promotion_cases import FLOOR, TARGET, Candidate, policy, state, write_model
from securesystemslib.signer import CryptoSigner

from assay import canonical
from assay.config.root import Target
from assay.errors import AssayError, Refused, UnfitInput
from assay.evidence import payload_id
from assay.keyring import Keyring, public_entry
from assay.promote import promote
from assay.signing import peek, seal
from assay.verify import verify
from assay.workspace import Workspace

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def candidate(workspace: Workspace, tmp_path: Path) -> Candidate:
    """A model that would be promoted."""
    made = Candidate(workspace, tmp_path / "candidate")
    assert made.gate()["decision"] == "promote"
    return made


def refused(candidate: Candidate, match: str = "", error: type[AssayError] = Refused, **given: Any) -> None:
    """Promotion is refused, and neither ledger nor registry shows a trace of it."""
    paths = {"decision": candidate.decision_path, "evidence": candidate.evidence_path, "model": candidate.model}
    arguments = paths | {"target": TARGET} | given
    before = candidate.workspace.ledger.names()
    with pytest.raises(error, match=match or None):
        promote(**arguments)
    assert candidate.workspace.ledger.names() == before
    assert not (candidate.workspace.home / "mlflow.db").exists()


def rewrite(path: Path, edit: Edit, signers: list[Any]) -> None:
    """Sign an edited statement anew: what an evaluator's key could say, or what a forger would."""
    statement = peek(path.read_bytes())
    edit(statement)
    path.write_bytes(seal(statement, signers))


def tampered(path: Path, edit: Edit) -> None:
    """Edit the payload and keep the signatures."""
    import base64

    envelope = canonical.loads(path.read_bytes())
    statement = canonical.loads(base64.b64decode(envelope["payload"]))
    edit(statement)
    envelope["payload"] = base64.b64encode(canonical.dumps(statement)).decode()
    path.write_bytes(canonical.dumps(envelope))


def test_what_is_not_tampered_with_is_promoted(candidate: Candidate) -> None:
    assert candidate.promote()["promoted"] is True


def test_evidence_of_one_model_is_refused_for_another(candidate: Candidate, tmp_path: Path) -> None:
    refused(candidate, "digest", model=write_model(tmp_path / "other", b"other"))


def test_another_evidence_than_the_one_decided_on_is_refused(candidate: Candidate, tmp_path: Path) -> None:
    other = Candidate(candidate.workspace, tmp_path / "other", soundness={"other": "holds"})
    refused(candidate, "evidence id", evidence=other.evidence_path)


def test_a_file_added_to_the_model_is_refused(candidate: Candidate) -> None:
    (candidate.model / "extra.pkl").write_bytes(b"x")
    refused(candidate, "files", error=UnfitInput)


def test_a_file_renamed_in_the_model_is_refused(candidate: Candidate) -> None:
    (candidate.model / "weights.safetensors").rename(candidate.model / "weights.bin")
    refused(candidate, "files", error=UnfitInput)


def test_a_byte_flipped_in_the_model_is_refused(candidate: Candidate) -> None:
    weights = candidate.model / "weights.safetensors"
    weights.write_bytes(bytes([weights.read_bytes()[0] ^ 1]) + weights.read_bytes()[1:])
    refused(candidate, "digest")


def test_a_link_in_the_model_is_refused(candidate: Candidate, tmp_path: Path) -> None:
    weights = candidate.model / "weights.safetensors"
    shutil.move(weights, tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    refused(candidate, "link", error=UnfitInput)


def test_an_empty_model_folder_is_refused(candidate: Candidate, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(candidate, "empty", error=UnfitInput, model=tmp_path / "empty")


@pytest.mark.parametrize("target", [Target(model="other"), Target(model="digits", alias="next")])
def test_a_decision_for_another_target_is_refused(candidate: Candidate, target: Target) -> None:
    refused(candidate, "target", target=target)


@pytest.mark.parametrize("decision", ["reject", "inconclusive", "PROMOTE", "", None, True])
def test_only_the_word_promote_promotes(candidate: Candidate, decision: Any) -> None:
    """Even when an evaluator's key signed something else."""
    signers = candidate.workspace.signers("evaluator")
    rewrite(candidate.decision_path, lambda said: said["predicate"].update(decision=decision), signers)
    refused(candidate, "decision")


def edit_rule(verdict: str) -> Edit:
    return lambda said: said["predicate"]["rules"][-1].update(verdict=verdict)


SIGNED_NONSENSE: list[tuple[str, Edit]] = [
    ("a rule that misses", edit_rule("misses")),
    ("a rule that is unclear", edit_rule("unclear")),
    ("no rules", lambda said: said["predicate"].update(rules=[])),
    ("only advisory rules", lambda said: [rule.update(severity="advisory") for rule in said["predicate"]["rules"]]),
    ("rules of another shape", lambda said: said["predicate"].update(rules="all hold")),
    ("no policy", lambda said: said["predicate"].pop("policy")),
    ("another policy", lambda said: said["predicate"]["policy"]["rules"][0].update(value=0.79)),
    ("one digit of the policy's digest", lambda said: said["subject"][2]["digest"].update(sha256="0" * 64)),
    ("no policy subject", lambda said: said["subject"].pop(2)),
    ("no evidence subject", lambda said: said["subject"].pop(0)),
    ("no target", lambda said: said["predicate"].pop("target")),
    ("no time", lambda said: said["predicate"].pop("run")),
    ("no validity", lambda said: said["predicate"].pop("valid_for_s")),
    ("a validity that is no number", lambda said: said["predicate"].update(valid_for_s="long")),
    ("an endless validity", lambda said: said["predicate"].update(valid_for_s=2**52)),
    ("no champion field", lambda said: said["predicate"].pop("champion")),
    ("subjects of another shape", lambda said: said.update(subject=[{"name": "model"}])),
    ("another predicate type", lambda said: said.update(predicateType="urn:assay:evidence:v1")),
    ("another schema", lambda said: said["predicate"].update(schema="assay.decision/v2")),
]


@pytest.mark.parametrize("edit", [edit for _, edit in SIGNED_NONSENSE], ids=[name for name, _ in SIGNED_NONSENSE])
def test_a_signed_decision_that_does_not_add_up_is_refused(candidate: Candidate, edit: Edit) -> None:
    rewrite(candidate.decision_path, edit, candidate.workspace.signers("evaluator"))
    refused(candidate)


@pytest.mark.parametrize("path", ["decision_path", "evidence_path"])
def test_an_edited_payload_under_the_old_signature_is_refused(candidate: Candidate, path: str) -> None:
    tampered(getattr(candidate, path), lambda said: said["predicate"]["run"].update(host="elsewhere"))
    refused(candidate, "signature")


def test_a_metric_edited_in_the_evidence_is_refused(candidate: Candidate) -> None:
    def better(said: dict[str, Any]) -> None:
        said["predicate"]["estimates"]["clean_accuracy"].update(low=0.99, value=0.995, high=1.0)

    tampered(candidate.evidence_path, better)
    refused(candidate, "signature")
    with pytest.raises(Refused):
        candidate.gate()


@pytest.mark.parametrize("path", ["decision_path", "evidence_path"])
def test_an_unsigned_envelope_is_refused(candidate: Candidate, path: str) -> None:
    rewrite(getattr(candidate, path), lambda said: None, [])
    refused(candidate, "signature")


@pytest.mark.parametrize("path", ["decision_path", "evidence_path"])
def test_a_key_that_is_not_listed_is_refused(candidate: Candidate, path: str) -> None:
    rewrite(getattr(candidate, path), lambda said: None, [CryptoSigner.generate_ed25519()])
    refused(candidate, "signature")


def test_the_gate_refuses_evidence_signed_by_a_stranger(candidate: Candidate) -> None:
    rewrite(candidate.evidence_path, lambda said: None, [CryptoSigner.generate_ed25519()])
    with pytest.raises(Refused):
        candidate.gate()


@pytest.mark.parametrize("path", ["decision_path", "evidence_path"])
def test_the_promoters_key_decides_nothing_and_measures_nothing(candidate: Candidate, path: str) -> None:
    rewrite(getattr(candidate, path), lambda said: None, candidate.workspace.signers("promoter"))
    refused(candidate, "signature")


def relist(workspace: Workspace, **changes: Any) -> None:
    """Change the keyring's entry of one role."""
    role = changes.pop("of")
    entries = [replace(entry, **changes) if role in entry.roles else entry for entry in workspace.keyring.keys]
    Keyring(tuple(entries), workspace.keyring.revoked).save(workspace.keyring_path)


def test_an_expired_key_decides_nothing(candidate: Candidate) -> None:
    relist(candidate.workspace, of="evaluator", not_after=(datetime.now(UTC) - timedelta(days=1)).isoformat())
    refused(candidate, "signature")


@pytest.mark.parametrize("of", ["decision_path", "evidence_path"])
def test_a_revoked_payload_promotes_nothing(candidate: Candidate, of: str) -> None:
    import base64

    payload = base64.b64decode(canonical.loads(getattr(candidate, of).read_bytes())["payload"])
    keyring = replace(candidate.workspace.keyring, revoked=frozenset({canonical.sha256(payload)}))
    keyring.save(candidate.workspace.keyring_path)
    refused(candidate, "revoked")


def test_an_expired_promoter_key_signs_nothing(candidate: Candidate) -> None:
    relist(candidate.workspace, of="promoter", not_after=(datetime.now(UTC) - timedelta(days=1)).isoformat())
    with pytest.raises(Refused, match="promoter key"):
        candidate.promote()
    assert candidate.workspace.ledger.names("promotions/") == []


def test_without_a_promoter_key_nothing_is_promoted(candidate: Candidate) -> None:
    Path(candidate.workspace.signer_uris["promoter"]).unlink()
    with pytest.raises(Refused, match="promoter key"):
        candidate.promote()
    assert candidate.workspace.ledger.names("promotions/") == []


def test_the_key_that_decided_may_not_promote_too(candidate: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two identities: one key listed with both roles is refused."""
    relist(candidate.workspace, of="evaluator", roles=("evaluator", "promoter"))
    monkeypatch.setenv("ASSAY_PROMOTER_KEY", candidate.workspace.signer_uris["evaluator"])
    with pytest.raises(Refused, match="promoter key"):
        candidate.promote()


def shifted(candidate: Candidate, field: str, **span: float) -> None:
    """Move the instant of the decision or the evidence, signed anew."""
    instant = (datetime.now(UTC) + timedelta(**span)).isoformat()
    path = candidate.decision_path if field == "decided_at" else candidate.evidence_path
    rewrite(
        path, lambda said: said["predicate"]["run"].update({field: instant}), candidate.workspace.signers("evaluator")
    )


@pytest.mark.parametrize("field", ["decided_at", "ended"])
@pytest.mark.parametrize("days", [-7.01, -400, 1])
def test_an_expired_or_future_envelope_is_refused(candidate: Candidate, field: str, days: float) -> None:
    shifted(candidate, field, days=days)
    refused(candidate, "time")


@pytest.mark.parametrize("field", ["decided_at", "ended"])
def test_a_clock_may_be_a_little_behind(candidate: Candidate, field: str) -> None:
    shifted(candidate, field, minutes=4)
    assert candidate.promote()["promoted"] is True


@pytest.mark.parametrize("managed", [(), ("evaluator",)])
def test_local_keys_promote_nothing_under_a_policy_that_refuses_them(
    candidate: Candidate, managed: tuple[str, ...]
) -> None:
    """A forged decision that claims to hold under such a policy is caught by the assurance of its key."""
    strict = policy(FLOOR, accept_local_keys=False)

    def claim(said: dict[str, Any]) -> None:
        said["predicate"]["policy"] = strict.to_json()
        next(entry for entry in said["subject"] if entry["name"] == "policy")["digest"]["sha256"] = strict.digest

    rewrite(candidate.decision_path, claim, candidate.workspace.signers("evaluator"))
    if not managed:
        refused(candidate, "assurance")
        return
    relist(candidate.workspace, of="evaluator", assurance="managed")
    assert candidate.promote()["promoted"] is True


def test_a_statement_replayed_as_another_kind_is_refused(candidate: Candidate) -> None:
    refused(candidate, "predicate", decision=candidate.evidence_path)
    refused(candidate, "predicate", evidence=candidate.decision_path)


def test_a_decision_from_another_installation_is_refused(candidate: Candidate, tmp_path: Path) -> None:
    elsewhere = replace(
        candidate.workspace,
        home=tmp_path / "other",
        keyring_path=tmp_path / "other/keys/keys.json",
        signer_uris={role: str(tmp_path / f"other/keys/{role}.pem") for role in ("evaluator", "promoter")},
    )
    elsewhere.initialise()
    rewrite(candidate.decision_path, lambda said: None, elsewhere.signers("evaluator"))
    refused(candidate, "signature")


def test_a_promotion_planted_in_the_ledger_stops_everything(candidate: Candidate) -> None:
    """Somebody with write access to the store puts a promotion there: no chain, no champion, no promotion."""
    ledger = candidate.workspace.ledger
    ledger.put("promotions/digits@champion/00000001.dsse.json", candidate.decision_path.read_bytes())
    with pytest.raises(Refused):
        candidate.promote()
    with pytest.raises(Refused):
        candidate.gate()
    assert ledger.names("promotions/") == ["promotions/digits@champion/00000001.dsse.json"]


@pytest.mark.parametrize(
    "change", [{"sequence": 3}, {"sequence": 1}, {"previous": "0" * 64}, {"target": {"model": "x"}}]
)
def test_a_promotion_out_of_line_stops_the_chain(candidate: Candidate, change: dict[str, Any]) -> None:
    """Even one that a promoter's key signed: rollback and replay by sequence."""
    candidate.promote()
    ledger = candidate.workspace.ledger
    statement = peek(ledger.get("promotions/digits@champion/00000001.dsse.json"))
    statement["predicate"] |= {"sequence": 2, "previous": payload_id(statement)} | change
    ledger.put(
        "promotions/digits@champion/00000002.dsse.json", seal(statement, candidate.workspace.signers("promoter"))
    )
    with pytest.raises(Refused):
        candidate.promote()


def test_files_planted_beside_the_model_in_the_ledger_are_refused(candidate: Candidate) -> None:
    candidate.workspace.ledger.put(f"models/{candidate.digest}/loader.py", b"evil")
    with pytest.raises(Refused, match="other files"):
        candidate.promote()
    assert candidate.workspace.ledger.names("promotions/") == []


def test_verification_finds_a_model_of_which_the_promotion_does_not_speak(candidate: Candidate, tmp_path: Path) -> None:
    envelope = tmp_path / "promotion.dsse.json"
    candidate.promote(promotion=envelope)
    keyring = candidate.workspace.keyring
    assert verify(candidate.model, keyring, against=envelope)["verified"] is True
    other = write_model(tmp_path / "other", b"other")
    assert verify(other, keyring)["verified"] is True
    assert verify(other, keyring, against=envelope)["verified"] is False


def test_verification_needs_the_public_keys_alone(candidate: Candidate) -> None:
    keyring = candidate.workspace.keyring
    for role in ("evaluator", "promoter"):
        Path(candidate.workspace.signer_uris[role]).unlink()  # type: ignore[index]
    assert verify(candidate.decision_path, keyring)["verified"] is True
    assert verify(candidate.decision_path, Keyring())["verified"] is False
    stranger = public_entry(CryptoSigner.generate_ed25519(), ["evaluator"])
    assert verify(candidate.decision_path, Keyring((stranger,)))["verified"] is False


def test_a_bundle_is_verified_as_a_whole(candidate: Candidate, tmp_path: Path) -> None:
    candidate.promote(promotion=candidate.folder / "promotion.dsse.json")
    keyring = candidate.workspace.keyring
    whole = verify(candidate.folder, keyring)
    assert (whole["verified"], sorted(one["kind"] for one in whole["checked"])) == (
        True,
        ["decision", "evidence", "model", "promotion"],
    )
    (candidate.evidence_path).rename(candidate.folder / "evidence")
    assert verify(candidate.folder, keyring)["checked"] != whole["checked"]
    assert verify(candidate.folder, keyring)["verified"] is True
    write_model(candidate.model, b"another")
    assert "speaks of model" in verify(candidate.folder, keyring)["reason"]


def test_there_must_be_something_to_verify(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UnfitInput):
            verify(path, Keyring())


def test_a_promotion_is_listed_in_the_registry_only_after_all_this(candidate: Candidate) -> None:
    candidate.promote()
    assert state(candidate.workspace)["aliases"] == {"champion": "1"}
