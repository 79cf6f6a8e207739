"""Approvals: bound to one evidence, model, policy and target; by distinct people who neither measure nor promote."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from promotion_cases import FLOOR, TARGET, Candidate, policy
from securesystemslib.signer import CryptoSigner

from assay.approvals import approve
from assay.claim import Claim
from assay.cli.main import run
from assay.config.gate import PolicyConfig
from assay.config.root import Target
from assay.errors import Refused, UnfitInput
from assay.keyring import Keyring, Role, make_key
from assay.signing import peek, seal
from assay.verify import verify
from assay.workspace import Workspace

PEOPLE = ("ann", "ben")


class Case:
    """A candidate under a policy that asks two of two people."""

    def __init__(self, workspace: Workspace, folder: Path, count: int = 2) -> None:
        self.folder = folder
        self.candidate = Candidate(workspace, folder / "candidate")
        self.workspace = self.candidate.workspace
        self.keys = {name: make_key(folder / f"{name}.pem", ["approver"]) for name in PEOPLE}
        self.listed(*self.workspace.keyring.keys, *self.keys.values())
        asked = {"rule": "approved", "count": count, "by": [entry.keyid for entry in self.keys.values()]}
        self.policy = policy(FLOOR, asked)

    def listed(self, *entries: Any, revoked: frozenset[str] = frozenset()) -> None:
        Keyring(entries, revoked).save(self.workspace.keyring_path)

    def by(self, name: str) -> Workspace:
        """The workspace as this person sees it: a key of their own and no other."""
        keys: dict[Role, str] = {"approver": str(self.folder / f"{name}.pem")}
        return replace(self.workspace, signer_uris=keys)

    def gate(self, **more: Any) -> dict[str, Any]:
        return self.candidate.gate(more.pop("rules", self.policy), **more)

    def approve(self, name: str, **more: Any) -> dict[str, Any]:
        return approve(self.candidate.decision_path, self.by(name), **more)

    def forge(self, name: str, edit: Any, *signers: Any) -> None:
        """An approval edited and signed again, instead of the first one in the ledger."""
        self.gate()
        self.approve(name)
        ledger = self.workspace.ledger
        (there,) = ledger.names("approvals/")
        document = peek(ledger.get(there))
        edit(document)
        (Path(self.workspace.ledger_uri) / there).unlink()
        ledger.put(there, seal(document, signers or self.by(name).signers("approver")))


@pytest.fixture
def case(workspace: Workspace, tmp_path: Path) -> Case:
    return Case(workspace, tmp_path)


def test_a_decision_waits_for_people_and_promotes_when_they_agree(case: Case) -> None:
    first = case.gate()
    assert first["decision"] == "inconclusive"
    waits = next(rule for rule in first["rules"] if rule["rule"] == "approved")
    assert (waits["verdict"], "waiting for 2 more" in waits["note"]) == ("not_measured", True)
    assert case.approve("ann")["added"] is True
    assert case.approve("ann")["added"] is False
    assert "waiting for 1 more" in case.gate()["rules"][-1]["note"]
    case.approve("ben")
    last = case.gate()
    assert (last["decision"], last["evidence_id"]) == ("promote", first["evidence_id"])
    assert last["attempt"]["number"] == first["attempt"]["number"] == 1
    said = peek(case.candidate.decision_path.read_bytes())["predicate"]
    assert {one["key"] for one in said["approvals"]} == {entry.keyid for entry in case.keys.values()}
    made = case.candidate
    claim = Claim.verify(
        made.decision_path, made.evidence_path, made.model, TARGET, case.workspace.keyring, datetime.now(UTC)
    )
    assert claim.decision == last["decision_id"]


def test_approvals_make_up_for_nothing(case: Case) -> None:
    """A rule that misses rejects, and a decision to reject cannot be approved."""
    rejecting = policy(FLOOR | {"value": 0.99}, dict(case.policy.rules[-1]))
    assert case.gate(rules=rejecting)["decision"] == "reject"
    with pytest.raises(Refused, match="misses"):
        case.approve("ann")
    assert case.workspace.ledger.names("approvals/") == []


def changed_policy(case: Case) -> dict[str, Any]:
    return {"rules": policy(FLOOR | {"value": 0.81}, dict(case.policy.rules[-1]))}


def other_target(case: Case) -> dict[str, Any]:
    return {"target": Target(model="digits", alias="next")}


@pytest.mark.parametrize("change", [changed_policy, other_target])
def test_an_approval_is_of_this_policy_and_target_alone(case: Case, change: Any) -> None:
    case.gate()
    for name in PEOPLE:
        case.approve(name)
    changed = case.gate(**change(case))
    assert changed["decision"] == "inconclusive"
    assert "it is about another" in changed["rules"][-1]["note"]
    assert case.gate()["decision"] == "promote"


def test_an_approval_is_of_this_evidence_alone(case: Case, tmp_path: Path) -> None:
    case.gate()
    for name in PEOPLE:
        case.approve(name)
    other = Candidate(case.workspace, tmp_path / "other", weights=b"other")
    case.listed(*case.workspace.keyring.keys)
    assert other.gate(case.policy)["decision"] == "inconclusive"


EDITS: list[tuple[str, Any]] = [
    ("another model", lambda said: said["subject"][1]["digest"].update(sha256="0" * 64)),
    ("another evidence", lambda said: said["subject"][0]["digest"].update(sha256="0" * 64)),
    ("no policy", lambda said: said["subject"].pop(2)),
    ("no target", lambda said: said["predicate"].pop("target")),
    ("somebody else's name", lambda said: said["predicate"].update(by="0" * 64)),
    ("no instant", lambda said: said["predicate"].update(run={})),
    ("another kind", lambda said: said.update(predicateType="urn:assay:decision:v1")),
    (
        "expired",
        lambda said: said["predicate"]["run"].update(approved_at=(datetime.now(UTC) - timedelta(days=8)).isoformat()),
    ),
    (
        "from the future",
        lambda said: said["predicate"]["run"].update(approved_at=(datetime.now(UTC) + timedelta(days=1)).isoformat()),
    ),
]


@pytest.mark.parametrize("edit", [edit for _, edit in EDITS], ids=[name for name, _ in EDITS])
def test_an_approval_that_says_something_else_does_not_count(workspace: Workspace, tmp_path: Path, edit: Any) -> None:
    case = Case(workspace, tmp_path, count=1)
    case.forge("ann", edit)
    assert case.gate()["decision"] == "inconclusive"
    case.approve("ben")
    assert case.gate()["decision"] == "promote"


@pytest.mark.parametrize("role", ["evaluator", "promoter", None])
def test_who_measures_promotes_or_is_a_stranger_cannot_approve(workspace: Workspace, tmp_path: Path, role: Any) -> None:
    case = Case(workspace, tmp_path, count=1)
    signer = case.workspace.signers(role)[0] if role else CryptoSigner.generate_ed25519()
    case.forge("ann", lambda said: said["predicate"].update(by=signer.public_key.keyid), signer)
    assert case.gate()["decision"] == "inconclusive"


@pytest.mark.parametrize("role", ["evaluator", "promoter"])
def test_an_approver_with_another_role_too_does_not_count(workspace: Workspace, tmp_path: Path, role: Role) -> None:
    case = Case(workspace, tmp_path, count=1)
    case.gate()
    case.approve("ann")
    both = replace(case.keys["ann"], roles=("approver", role))
    case.listed(*(both if entry.keyid == both.keyid else entry for entry in case.workspace.keyring.keys))
    assert "somebody else" in case.gate()["rules"][-1]["note"]
    with pytest.raises(Refused, match="somebody else"):
        case.approve("ann")


def test_one_key_under_two_ids_is_refused(case: Case) -> None:
    """Two names for one key, each on the list: the keyring itself does not open."""
    case.gate()
    twin = replace(case.keys["ann"], keyid="1" * 64)
    with pytest.raises(UnfitInput, match="one key listed twice"):
        case.listed(*case.workspace.keyring.keys, twin)


def test_one_person_who_approves_twice_is_one(case: Case) -> None:
    """Two documents of one key, which differ in their comment."""
    case.gate()
    case.approve("ann")
    (there,) = case.workspace.ledger.names("approvals/")
    document = peek(case.workspace.ledger.get(there))
    document["predicate"]["why"] = "again"
    data = seal(document, case.by("ann").signers("approver"))
    case.workspace.ledger.put(there.replace(there.split("/")[-1][:8], "0" * 8), data)
    answer = case.gate()
    assert answer["decision"] == "inconclusive"
    assert "waiting for 1 more" in answer["rules"][-1]["note"]
    assert "its key approved already" in answer["rules"][-1]["note"]


def test_a_revoked_or_expired_approval_counts_no_more(workspace: Workspace, tmp_path: Path) -> None:
    case = Case(workspace, tmp_path, count=1)
    case.gate()
    payload = case.approve("ann")["approval"]
    assert case.gate()["decision"] == "promote"
    case.listed(*case.workspace.keyring.keys, revoked=frozenset({payload}))
    assert "revoked" in case.gate()["rules"][-1]["note"]
    old = replace(case.keys["ann"], not_after=(datetime.now(UTC) - timedelta(hours=1)).isoformat())
    case.listed(*(old if entry.keyid == old.keyid else entry for entry in case.workspace.keyring.keys))
    assert case.gate()["decision"] == "inconclusive"


def test_local_keys_approve_nothing_under_a_policy_that_refuses_them(case: Case) -> None:
    strict = policy(FLOOR, dict(case.policy.rules[-1]), accept_local_keys=False)
    with pytest.raises(Refused, match="local"):
        approve(case.candidate.evidence_path, case.by("ann"), policy=strict, target=TARGET)


def test_only_what_is_asked_for_can_be_approved(case: Case, tmp_path: Path) -> None:
    case.candidate.gate(policy(FLOOR))
    with pytest.raises(UnfitInput, match="no rule approved"):
        case.approve("ann")
    make_key(tmp_path / "eve.pem", ["approver"])
    case.gate()
    with pytest.raises(Refused, match="not on the policy's list"):
        case.approve("eve")
    with pytest.raises(UnfitInput, match="key of role approver"):
        case.approve("nobody")
    with pytest.raises(UnfitInput, match="names both"):
        case.approve("ann", target=TARGET)
    with pytest.raises(UnfitInput, match="--policy and --target"):
        approve(case.candidate.evidence_path, case.by("ann"))
    with pytest.raises(UnfitInput, match="No such file"):
        approve(tmp_path / "missing", case.by("ann"))
    assert case.workspace.ledger.names("approvals/") == []


def test_evidence_can_be_approved_before_any_decision(workspace: Workspace, tmp_path: Path) -> None:
    case = Case(workspace, tmp_path, count=1)
    approve(case.candidate.evidence_path, case.by("ann"), policy=case.policy, target=TARGET, why="seen")
    assert case.gate()["decision"] == "promote"


@pytest.mark.parametrize(
    "rule",
    [
        {"by": []},
        {"by": ["x"]},
        {"by": ["a" * 64], "count": 2},
        {"by": ["a" * 64], "count": 0},
        {"by": ["a" * 64, "a" * 64]},
        {},
    ],
)
def test_a_rule_that_nobody_could_meet_or_that_asks_nobody_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(UnfitInput):
        policy(FLOOR, {"rule": "approved"} | rule)


def test_a_policy_of_approvals_alone_is_an_error() -> None:
    with pytest.raises(UnfitInput, match="measurement"):
        policy({"rule": "approved", "by": ["a" * 64]})


def test_an_approval_verifies_like_any_envelope(case: Case, tmp_path: Path) -> None:
    case.gate()
    case.approve("ann")
    (name,) = case.workspace.ledger.names("approvals/")
    copy = tmp_path / "approval.dsse.json"
    copy.write_bytes(case.workspace.ledger.get(name))
    assert verify(copy, case.workspace.keyring)["verified"] is True


def test_the_verb_makes_a_key_approves_and_says_so(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = Candidate(workspace, tmp_path / "candidate")

    def call(*arguments: object) -> tuple[int, Any]:
        code = run([*(str(argument) for argument in arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    code, made = call("approve", "--init")
    assert (code, len(made["key"])) == (0, 64)
    assert call("approve", "--init")[1] == {"key": made["key"], "created": []}
    rules = tmp_path / "policy.yaml"
    rules.write_text(yaml.safe_dump({"rules": [FLOOR, {"rule": "approved", "by": [made["key"]]}]}))
    assert PolicyConfig.load(rules).rules[-1]["by"] == (made["key"],)
    gate = ("gate", candidate.evidence_path, "--policy", rules, "--target", "digits@champion")
    code, waits = call(*gate)
    assert (code, waits["decision"]) == (3, "inconclusive")
    code, given = call("approve", candidate.decision_path, "--why", "looked at it")
    assert (code, given["approved"], given["added"], given["key"]) == (0, True, True, made["key"])
    assert call(*gate)[:1] == (0,)
    assert call("approve")[0] == 2


def test_the_headline_says_for_whom_a_decision_waits(case: Case) -> None:
    from assay.gate.summary import lines

    assert lines(case.gate())[-1].startswith("inconclusive: waiting for 2 more")
