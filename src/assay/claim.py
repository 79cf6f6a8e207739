"""What a promotion rests on, verified: decision, evidence, model folder and target belong together and still count."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from assay import canonical
from assay.canonical import read_bytes
from assay.config.root import Target
from assay.errors import Refused
from assay.evidence import Evidence, payload_id
from assay.models.spec import model_digest
from assay.signing import MAX_ENVELOPE_BYTES, Keyring, Opened, unseal

LEEWAY = timedelta(minutes=5)

__all__ = ["Claim"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Verified facts; made by `verify` only.

    Fields:
        target: model name and alias, the decision's own.
        model: digest of the model folder.
        evidence, decision, policy: ids and digest.
        champion: the model that was champion when the decision compared with it, empty for none; None when no rule
            compared.
        deciders: ids of the keys that signed the decision.
        envelopes: the bytes that were verified, by ledger name.
    """

    target: Target
    model: str
    evidence: str
    decision: str
    policy: str
    champion: str | None
    deciders: tuple[str, ...]
    envelopes: dict[str, bytes]

    @classmethod
    def verify(
        cls, decision: Path, evidence: Path, model: Path, target: Target, keyring: Keyring, now: datetime
    ) -> Claim:
        """Check everything, writing nothing.

        Steps: 1. the decision's signature; 2. it says promote, every required rule holds; 3. its target is the one
        asked for; 4. its policy has the digest it names; 5. it has not expired; 6. local keys only where the policy
        accepts them; 7. the evidence's signature; 8. its id is the one decided on; 9. it has not expired; 10. it is
        about the decision's model; 11. so are the model folder's bytes.

        Raises:
            Refused: any of the steps says no.
            UnfitInput: a file that cannot be read, or a folder that is no model.
        """
        decided, decision_bytes = _open(decision, "decision", keyring, now)
        body, subjects = decided.predicate, _subjects(decided, str(decision))
        _require_promote(body, str(decision))
        _require_same(f"{decision}: target", body.get("target"), target.to_json())
        _require_policy(body, subjects, str(decision))
        _require_fresh(body.get("run", {}).get("decided_at"), body, now, str(decision))
        measured, evidence_bytes = _open(evidence, "evidence", keyring, now)
        _require_assurance(body, decided, measured, str(decision))
        evidence_id = payload_id(measured.statement)
        _require_same(f"{evidence}: evidence id", evidence_id, subjects.get("evidence"))
        about = Evidence.from_statement(measured.statement)
        instant = about.measured_at
        _require_fresh(instant.isoformat() if instant else None, body, now, str(evidence))
        _require_same(f"{evidence}: model", about.subjects.get("model"), subjects.get("model"))
        _require_same(f"{model}: digest", model_digest(model), subjects.get("model"))
        decision_id = payload_id(decided.statement)
        return cls(
            target=target,
            model=subjects["model"],
            evidence=evidence_id,
            decision=decision_id,
            policy=subjects["policy"],
            champion=body["champion"],
            deciders=decided.keyids,
            envelopes={
                f"evidence/{evidence_id}.dsse.json": evidence_bytes,
                f"decisions/{decision_id}.dsse.json": decision_bytes,
            },
        )


def _open(path: Path, kind: str, keyring: Keyring, now: datetime) -> tuple[Opened, bytes]:
    data = read_bytes(path, MAX_ENVELOPE_BYTES)
    return unseal(data, keyring, kind=kind, role="evaluator", now=now, where=str(path)), data


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


def _require_policy(body: dict[str, Any], subjects: dict[str, str], where: str) -> None:
    _require_same(f"{where}: policy", canonical.digest(body.get("policy")), subjects["policy"])


def _require_assurance(body: dict[str, Any], decided: Opened, measured: Opened, where: str) -> None:
    accepted = body["policy"].get("accept_local_keys") is True
    if not accepted and (decided.assurance, measured.assurance) != ("managed", "managed"):
        raise Refused(f"{where}: key", "one of assurance local", "managed keys, as the policy asks")


def _require_fresh(text: str | None, body: dict[str, Any], now: datetime, where: str) -> None:
    try:
        start = datetime.fromisoformat(text or "")
        valid = start - LEEWAY <= now < start + timedelta(seconds=body["valid_for_s"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Refused(
            f"{where}: time", f"{type(error).__name__}: {error}", "an instant and how long it counts"
        ) from error
    if not valid:
        fix = "Evaluate the model and decide again."
        raise Refused(
            f"{where}: time", f"{text}, for {body['valid_for_s']} s", f"to be valid at {now.isoformat()}", fix
        )


def _short(value: Any) -> str:
    return repr(value[:12]) if isinstance(value, str) else canonical.dumps(value).decode()[:200]
