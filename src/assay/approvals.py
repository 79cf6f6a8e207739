"""Approvals: people who agree, by signature, that exactly this model goes to exactly this target on this evidence.

``approvals/<evidence id>/<payload digest>.dsse.json``. An approval names evidence, model, policy and target; with any
of them changed it is an approval of something else and counts for nothing. Nobody waits for one: a gate without enough
of them is inconclusive, and run again when they are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from assay import canonical
from assay.canonical import read_bytes
from assay.config.base import parse
from assay.config.gate import PolicyConfig
from assay.config.root import Target
from assay.envelopes import open_any
from assay.errors import AssayError, Refused, UnfitInput
from assay.evidence import Evidence
from assay.keyring import KeyEntry, Keyring
from assay.ledger import Ledger
from assay.signing import MAX_ENVELOPE_BYTES, peek, seal, statement, unseal
from assay.workspace import Workspace

KIND = "approval"
LEEWAY = timedelta(minutes=5)
OTHERS = ("custodian", "evaluator", "promoter")

__all__ = ["KIND", "Approval", "Matter", "approve", "counted", "may_approve"]


@dataclass(frozen=True, kw_only=True)
class Matter:
    """What is approved.

    Fields:
        evidence: its id; with it model, records, attacks, code.
        model: digest of the model folder.
        policy: as the gate reads it; the digest is what is bound.
        target: where the model would go.
    """

    evidence: str
    model: str
    policy: PolicyConfig
    target: Target

    @property
    def subjects(self) -> dict[str, str]:
        """SHA-256 by name."""
        return {"evidence": self.evidence, "model": self.model, "policy": self.policy.digest}


@dataclass(frozen=True, kw_only=True)
class Approval:
    """One approval from the ledger.

    Fields:
        key: id of the key that signed.
        payload: digest of what it signed.
        fault: why it does not count; empty where it does.
    """

    key: str
    payload: str
    fault: str = ""


def approve(
    path: Path, workspace: Workspace, *, policy: PolicyConfig | None = None, target: Target | None = None, why: str = ""
) -> dict[str, Any]:
    """Sign an approval with the workspace's approver key and put it into the ledger; twice is once.

    Args:
        path: the decision that waits for it, or the evidence with ``policy`` and ``target``.
        workspace: whose key, keyring and ledger.
        policy: only beside evidence; a decision names its own.
        target: likewise.
        why: a comment for those who read it later.

    Returns:
        ``approved`` (true), ``key``, ``evidence``, ``model``, ``policy``, ``target``, ``approval`` (payload digest),
        ``added`` (false when this key's approval was there already).

    Raises:
        Refused: a decision to reject, an envelope that does not verify, or a key that may not approve this.
        UnfitInput: no key, or a policy that asks for no approval.
    """
    now = datetime.now(UTC)
    matter = _matter(path, workspace.keyring, policy, target)
    signers = workspace.signers("approver")
    if not signers:
        raise UnfitInput("key of role approver", "none", "one to sign the approval", "assay approve --init makes one.")
    key = signers[0].public_key.keyid
    _require_asked(key, matter, workspace.keyring, now)
    there = next((one for one in counted(workspace.ledger, workspace.keyring, matter, now) if _stands(one, key)), None)
    payload = there.payload if there else ""
    if there is None:
        run = {"approved_at": now.isoformat()}
        body = {"target": matter.target.to_json(), "by": key, "why": why, "run": run}
        sealed = seal(statement(KIND, matter.subjects, body), signers)
        payload = canonical.sha256(canonical.dumps(peek(sealed)))
        workspace.ledger.put(f"approvals/{matter.evidence}/{payload}.dsse.json", sealed)
    return {
        "approved": True,
        "key": key,
        **matter.subjects,
        "target": matter.target.to_json(),
        "approval": payload,
        "added": there is None,
    }


def counted(ledger: Ledger, keyring: Keyring, matter: Matter, now: datetime) -> list[Approval]:
    """Every approval of the evidence, in order of their names, each with the reason where it does not count.

    Counts: a signature that holds, of a key with the role approver that is valid now and may neither measure nor
    promote; about the same evidence, model, policy and target; not expired, not revoked, not from the future; the first
    of its key.
    """
    seen: set[str] = set()
    found = []
    for name in ledger.names(f"approvals/{matter.evidence}/"):
        one = _read(ledger.get(name), name, keyring, matter, now)
        if not one.fault and one.key in seen:
            one = Approval(key=one.key, payload=one.payload, fault="its key approved already")
        seen |= set() if one.fault else {one.key}
        found.append(one)
    return found


def may_approve(entry: KeyEntry, policy: PolicyConfig, now: datetime) -> str:
    """Why a key may not approve under a policy; empty where it may."""
    if "approver" not in entry.roles:
        return "its key has no role approver"
    if any(role in entry.roles for role in OTHERS):
        return "its key measures or promotes too: who approves must be somebody else"
    if not entry.valid_at(now):
        return "its key is not valid now"
    if entry.assurance != "managed" and not policy.accept_local_keys:
        return "its key is of assurance local, which this policy refuses"
    return ""


def _read(data: bytes, name: str, keyring: Keyring, matter: Matter, now: datetime) -> Approval:
    try:
        opened = unseal(data, keyring, kind=KIND, role="approver", where=name)
    except AssayError as error:
        return Approval(key="", payload=name.rsplit("/", 1)[-1].partition(".")[0], fault=str(error))
    key = opened.keyids[0]
    entry = next(entry for entry in keyring.keys if entry.keyid == key)
    try:
        differences = tuple(_differences(opened.statement, key, matter))
    except (AttributeError, KeyError, TypeError):
        differences = ("it is of another shape",)
    faults = (
        *differences,
        may_approve(entry, matter.policy, now),
        *_age(opened, matter, now),
    )
    return Approval(key=key, payload=opened.payload_digest, fault=next((fault for fault in faults if fault), ""))


def _differences(document: dict[str, Any], key: str, matter: Matter) -> Iterator[str]:
    """What an approval is about other than the matter at hand."""
    body = document["predicate"]
    named = {entry.get("name"): entry.get("digest", {}).get("sha256") for entry in document["subject"]}
    for name, digest in matter.subjects.items():
        if named.get(name) != digest:
            yield f"it is about another {name}"
    if body.get("target") != matter.target.to_json():
        yield "it is about another target"
    if body.get("by") != key:
        yield "it names another key than the one that signed"


def _age(opened: Any, matter: Matter, now: datetime) -> Iterator[str]:
    try:
        start = datetime.fromisoformat(opened.predicate["run"]["approved_at"])
        if not start - LEEWAY <= now < start + timedelta(seconds=matter.policy.valid_for_s):
            yield "it expired, or is from the future"
    except (KeyError, TypeError, ValueError, OverflowError):
        yield "it names no instant"


def _stands(one: Approval, key: str) -> bool:
    return one.key == key and not one.fault


def _matter(path: Path, keyring: Keyring, policy: PolicyConfig | None, target: Target | None) -> Matter:
    """What an envelope asks to approve."""
    kind, opened = open_any(read_bytes(path, MAX_ENVELOPE_BYTES), keyring, str(path))
    body = opened.predicate
    if kind == "evidence":
        if policy is None or target is None:
            raise UnfitInput(str(path), "evidence alone", "--policy and --target beside it, or the decision that waits")
        measured = Evidence.from_statement(opened.statement)
        return Matter(evidence=measured.id, model=measured.subjects.get("model", ""), policy=policy, target=target)
    if kind != "decision":
        raise UnfitInput(str(path), f"a {kind}", "a decision, or evidence")
    if body.get("decision") == "reject":
        raise Refused(f"{path}: decision", "'reject'", "one that waits", "No approval makes up for a rule that misses.")
    if policy is not None or target is not None:
        raise UnfitInput(str(path), "a decision with --policy or --target", "the decision alone: it names both")
    named = {entry["name"]: entry["digest"]["sha256"] for entry in opened.statement["subject"]}
    asked = parse(PolicyConfig, body.get("policy"), f"{path}: policy")
    if asked.digest != named.get("policy"):
        raise Refused(f"{path}: policy", asked.digest[:12], str(named.get("policy"))[:12], "Decide again.")
    where = parse(Target, body.get("target"), f"{path}: target")
    return Matter(evidence=named["evidence"], model=named["model"], policy=asked, target=where)


def _require_asked(key: str, matter: Matter, keyring: Keyring, now: datetime) -> None:
    """The policy asks for approvals, this key's among them, and the key may give one."""
    asked = [rule for rule in matter.policy.rules if rule["rule"] == "approved"]
    if not asked:
        raise UnfitInput("policy", "no rule approved", "one, such as {rule: approved, count: 1, by: [<key id>]}")
    if not any(key in rule["by"] for rule in asked):
        raise Refused(f"key {key[:12]}", "not on the policy's list", "one of those the rule approved names")
    entry = next((entry for entry in keyring.keys if entry.keyid == key), None)
    fault = may_approve(entry, matter.policy, now) if entry else "it is not in the keyring"
    if fault:
        raise Refused(f"key {key[:12]}", fault, "a key of role approver alone, valid now")
