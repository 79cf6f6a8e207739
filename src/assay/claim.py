"""What a promotion rests on, verified: decision, evidence, model and target belong together and still count.

Asked twice: before a promotion, of the files at hand and as of now (`Claim.verify`); and ever after, of the ledger's
copies (`Claim.standing`). Then the promoter's signature vouches for their age at the time, and keys have to have been
valid when they signed. A revoked key or payload counts at neither time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from assay import canonical
from assay.config.root import Target
from assay.errors import Refused, UnfitInput
from assay.evidence import Evidence, payload_id
from assay.keyring import Keyring
from assay.ledger import Ledger
from assay.models.spec import model_files
from assay.promotions import Promotion
from assay.signing import Opened, read_envelope, require_valid_at, unseal

LEEWAY = timedelta(minutes=5)

__all__ = ["Claim"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Verified facts; made by `verify` and `standing` only.

    Fields:
        target: model name and alias, the decision's own.
        model: digest of the model folder.
        evidence, decision, policy: ids and digest.
        measured: the evidence.
        champion: the model that was champion when the decision compared with it, empty for none; None when no rule
            compared.
        deciders: ids of the keys that signed the decision.
        serve_for_s: how long after its promotion the policy lets the model be served; 0 for no limit.
        envelopes: the bytes that were verified, by ledger name.
        files: name and SHA-256 of the model's files, where they were at hand.
    """

    target: Target
    model: str
    evidence: str
    decision: str
    policy: str
    measured: Evidence
    champion: str | None
    deciders: tuple[str, ...]
    serve_for_s: int
    envelopes: dict[str, bytes]
    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def verify(
        cls, decision: Path, evidence: Path, model: Path, target: Target, keyring: Keyring, now: datetime
    ) -> Claim:
        """Check everything, writing nothing.

        Steps: 1. the decision's signature; 2. it says promote, every required rule holds; 3. its target is the one
        asked for; 4. its policy has the digest it names, one of those reviewed where the keyring
        lists any; 5. it has not expired; 6. local keys only where the policy accepts them; 7. the evidence's
        signature; 8. its id is the one decided on; 9. it has not expired; 10. it is about the decision's model; 11. so
        are the model folder's bytes.

        Raises:
            Refused: any of the steps says no.
            UnfitInput: a file that is no envelope, or a folder that is no model.
        """
        said, measured = read_envelope(decision), read_envelope(evidence)
        names = (str(decision), str(evidence))
        claim = cls._of(said, measured, target, keyring, now, names)
        files = model_files(model)
        _require_same(f"{model}: digest", canonical.tree_digest(files), claim.model)
        return replace(claim, files=files)

    @classmethod
    def standing(cls, made: Promotion, ledger: Ledger, keyring: Keyring) -> Claim:
        """What a promotion in the ledger rests on: steps 1 to 4, 6 to 8 and 10 of `verify`, on the ledger's copies.

        Raises:
            Refused: any of the steps says no, a copy is missing, or the promotion names something else.
        """
        names = f"decisions/{made.decision}.dsse.json", f"evidence/{made.evidence}.dsse.json"
        try:
            decision, evidence = (ledger.get(name) for name in names)
            claim = cls._of(decision, evidence, made.target, keyring, None, names)
        except UnfitInput as error:  # here a file that is missing or broken is an answer: it does not hold
            raise Refused(error.where, error.got, error.need, error.fix) from error
        got, need = (claim.model, claim.evidence, claim.decision), (made.model, made.evidence, made.decision)
        for what, here, there in zip(("model", "evidence", "decision"), got, need, strict=True):
            _require_same(f"promotion {made.sequence}: {what}", there, here)
        return claim

    @classmethod
    def _of(
        cls, decision: bytes, evidence: bytes, target: Target, keyring: Keyring, now: datetime | None,
        names: tuple[str, str],
    ) -> Claim:  # fmt: skip
        """The claim of two envelopes, checked as of an instant, or each as of the instant it names itself."""
        decided = unseal(decision, keyring, kind="decision", role="evaluator", now=now, where=names[0])
        body, subjects = decided.predicate, _subjects(decided, names[0])
        _require_promote(body, names[0])
        _require_same(f"{names[0]}: target", body.get("target"), target.to_json())
        _require_policy(body, subjects, keyring, names[0])
        decided_at = _instant(body.get("run", {}).get("decided_at"), names[0])
        measured = unseal(evidence, keyring, kind="evidence", role="evaluator", now=now, where=names[1])
        _require_assurance(body, decided, measured, names[0])
        evidence_id = payload_id(measured.statement)
        _require_same(f"{names[1]}: evidence id", evidence_id, subjects.get("evidence"))
        about = Evidence.from_statement(measured.statement)
        measured_at = _instant(about.run.get("ended"), names[1])
        for opened, instant, where in ((decided, decided_at, names[0]), (measured, measured_at, names[1])):
            if now is None:
                require_valid_at(opened, keyring, "evaluator", instant, where)
            else:
                _require_fresh(instant, body, now, where)
        _require_same(f"{names[1]}: model", about.subjects.get("model"), subjects.get("model"))
        decision_id = payload_id(decided.statement)
        return cls(
            target=target,
            model=subjects["model"],
            evidence=evidence_id,
            decision=decision_id,
            policy=subjects["policy"],
            measured=about,
            champion=body["champion"],
            deciders=decided.keyids,
            serve_for_s=_seconds(body["policy"].get("serve_for_s", 0), names[0]),
            envelopes={
                f"evidence/{evidence_id}.dsse.json": evidence,
                f"decisions/{decision_id}.dsse.json": decision,
            },
        )


def _subjects(opened: Opened, where: str) -> dict[str, str]:
    try:
        found = {entry["name"]: entry["digest"]["sha256"] for entry in opened.statement["subject"]}
    except (KeyError, TypeError) as error:
        raise Refused(f"{where}: subject", f"{type(error).__name__}: {error}", "names and SHA-256") from error
    missing = {"model", "evidence", "policy"} - found.keys()
    if missing or "champion" not in opened.predicate:
        raise Refused(
            f"{where}: subject", f"no {', '.join(sorted(missing)) or 'champion'}", "the subjects of a decision"
        )
    return found


def _require_promote(body: dict[str, Any], where: str) -> None:
    if body.get("decision") != "promote":
        raise Refused(f"{where}: decision", repr(body.get("decision")), "'promote'", "Only that promotes.")
    rules = body.get("rules")
    required = [rule for rule in rules if rule.get("severity") != "advisory"] if isinstance(rules, list) else []
    if not required or any(rule.get("verdict") != "holds" for rule in required):
        raise Refused(f"{where}: rules", "a required rule that does not hold", "all required rules to hold")


def _require_same(where: str, got: Any, need: Any) -> None:
    if not need or canonical.dumps(got) != canonical.dumps(need):
        fix = "Evidence and decision are for exactly one model and target; measure and decide again."
        raise Refused(where, _short(got), _short(need), fix)


def _require_policy(body: dict[str, Any], subjects: dict[str, str], keyring: Keyring, where: str) -> None:
    if not isinstance(body.get("policy"), dict):
        raise Refused(f"{where}: policy", type(body.get("policy")).__name__, "the policy itself")
    _require_same(f"{where}: policy", canonical.digest(body.get("policy")), subjects["policy"])
    if keyring.policies and subjects["policy"] not in keyring.policies:
        fix = "Review it, then list its digest under policies in the key list."
        raise Refused(f"{where}: policy", subjects["policy"][:12], "one that was reviewed", fix)


def _require_assurance(body: dict[str, Any], decided: Opened, measured: Opened, where: str) -> None:
    accepted = body["policy"].get("accept_local_keys") is True
    if not accepted and (decided.assurance, measured.assurance) != ("managed", "managed"):
        raise Refused(f"{where}: key", "one of assurance local", "managed keys, as the policy asks")


def _instant(text: Any, where: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text or "")
        if instant.tzinfo is None:
            raise ValueError("no time zone")
    except (TypeError, ValueError) as error:
        raise Refused(f"{where}: time", f"{type(error).__name__}: {error}", "an instant with a zone") from error
    return instant


def _seconds(value: Any, where: str) -> int:
    if type(value) is not int or value < 0:
        raise Refused(f"{where}: policy: serve_for_s", repr(value), "seconds, or 0 for no limit")
    return value


def _require_fresh(start: datetime, body: dict[str, Any], now: datetime, where: str) -> None:
    try:
        valid = start - LEEWAY <= now < start + timedelta(seconds=body["valid_for_s"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Refused(f"{where}: time", f"{type(error).__name__}: {error}", "how long it counts") from error
    if not valid:
        fix = "Evaluate the model and decide again."
        raise Refused(
            f"{where}: time",
            f"{start.isoformat()}, for {body['valid_for_s']} s",
            f"to be valid at {now.isoformat()}",
            fix,
        )


def _short(value: Any) -> str:
    return repr(value[:12]) if isinstance(value, str) else canonical.dumps(value).decode()[:200]
