"""The step: one signed evidence envelope and a policy give one signed decision envelope."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assay import lineage
from assay.approvals import Approval, Matter, counted
from assay.attempts import charge
from assay.config.gate import PolicyConfig
from assay.config.root import Target
from assay.data.files import write_file
from assay.data.manifest import Manifest
from assay.errors import UnfitInput
from assay.evidence import Evidence, payload_id
from assay.gate.decide import ask, conclude
from assay.gate.summary import markdown
from assay.gate.verdict import Case
from assay.incidents import against, ancestry
from assay.ledger import Ledger, put_first
from assay.promotions import champion, history
from assay.signing import Opened, read_envelope, seal, statement, unseal
from assay.workspace import Workspace

KIND = "decision"

__all__ = ["KIND", "gate"]


def gate(
    evidence: Path,
    policy: PolicyConfig,
    *,
    target: Target,
    decision: Path,
    summary: Path | None = None,
    page: Path | None = None,
    run: str = "",
) -> dict[str, Any]:
    """Apply a policy to one evidence envelope.

    Equal evidence, policy, target, champion and attempt give the same decision id; the ledger keeps the first envelope
    of it. The attempt is charged before anything is decided, and evidence that was charged before keeps its number.

    Args:
        evidence: DSSE envelope written by evaluate; one without a signature gives inconclusive.
        policy: the rules.
        target: where the model would go.
        decision: the envelope to write.
        summary: a Markdown page to write, verdict first.
        page: an HTML page to write, verdict first.
        run: id of the pipeline run.

    Returns:
        ``decision`` (promote, reject or inconclusive), ``rules`` (one entry each, see `assay.gate.decide.ask`),
        ``bundle`` (the path written), ``decision_id``, ``evidence_id``, ``model``, ``dataset``, ``policy``, ``target``,
        ``attempt`` (``number``, ``of``, ``confidence``, ``holdout``, ``earlier``) and ``measured``, how the evidence
        was made.

    Raises:
        Refused: a signature that does not hold, or a ledger that was changed.
        UnfitInput: a file that is no envelope, or signed evidence that names no hold-out.
    """
    workspace = Workspace.from_env()
    data = read_envelope(evidence)
    now = datetime.now(UTC)
    with lineage.step("gate", run, workspace) as record:
        opened = unseal(
            data,
            workspace.keyring,
            kind="evidence",
            role="evaluator",
            now=now,
            allow_unsigned=True,
            where=str(evidence),
        )
        case = _case(opened, policy, target, now, workspace)
        document = decide(case, target, {"id": record.run, "decided_at": now.isoformat()}, opened)
        sealed = seal(document, workspace.signers("evaluator"))
        decision_id, evidence_id = payload_id(document), case.evidence.id
        if opened.keyids:
            put_first(record.ledger, f"evidence/{evidence_id}.dsse.json", data)
        put_first(record.ledger, f"decisions/{decision_id}.dsse.json", sealed)
        write_file(decision, sealed)
        body = document["predicate"]
        if summary is not None:
            write_file(summary, markdown(document).encode())
        if page is not None:
            from assay.gate.page import write_page  # matplotlib takes a second to load

            write_page(page, document, workspace)
            record.shows(page)
        record.reads("evidence", evidence_id)
        record.reads("model", case.evidence.subjects["model"])
        record.writes("decision", decision_id, body["decision"])
        record.params |= {"policy": policy.to_json(), "target": target.to_json()}
        record.tags |= {"assay.decision": body["decision"], "assay.decision_id": decision_id}
    return {
        "decision": body["decision"],
        "rules": body["rules"],
        "bundle": str(decision),
        "decision_id": decision_id,
        "evidence_id": evidence_id,
        "model": case.evidence.subjects["model"],
        "dataset": case.evidence.subjects.get("dataset", ""),
        "policy": policy.digest,
        "target": target.to_json(),
        "attempt": body["attempt"],
        "measured": case.evidence.measured,
    }


def decide(case: Case, target: Target, run: dict[str, Any], opened: Opened) -> dict[str, Any]:
    """The statement of the decision on a case.

    Args:
        case: what the rules are asked.
        target: where the model would go.
        run: id and instant; beside it go the keys that signed the evidence. Enters no id.
        opened: the evidence's envelope, verified.
    """
    rules = ask(case)
    looked = {"holdout": case.holdout, "earlier": list(case.earlier)}
    subjects = {
        "model": case.evidence.subjects["model"],
        "evidence": case.evidence.id,
        "policy": case.policy.digest,
    }
    compares = any(rule["rule"] == "no_worse_than" for rule in rules)
    predicate = {
        "decision": conclude(rules),
        "rules": rules,
        "target": target.to_json(),
        "policy": case.policy.to_json(),
        "valid_for_s": case.policy.valid_for_s,
        "champion": case.champion if compares else None,
        "approvals": [{"key": one.key, "payload": one.payload} for one in case.approvals if not one.fault],
        "attempt": {"number": case.attempt, "of": case.policy.attempts, "confidence": case.confidence} | looked,
        "run": run | {"evidence_payload": opened.payload_digest, "evidence_keys": list(opened.keyids)},
    }
    return statement(KIND, subjects, predicate)


def _case(opened: Opened, policy: PolicyConfig, target: Target, now: datetime, workspace: Workspace) -> Case:
    evidence = Evidence.from_statement(opened.statement)
    if "model" not in evidence.subjects:
        raise UnfitInput(
            "evidence",
            f"about {', '.join(sorted(evidence.subjects))}",
            "evidence about a model, by the digest of its files",
            "What is behind an address can change unseen: import the model and measure that.",
        )
    number, earlier = _attempt(evidence, target, workspace, signed=bool(opened.keyids))
    promotions = history(workspace.ledger, workspace.keyring, target)
    return Case(
        evidence=evidence,
        policy=policy,
        now=now,
        signed=bool(opened.keyids) and bool(workspace.signers("evaluator")),
        assurance=opened.assurance,
        champion=champion(promotions, besides=evidence.subjects["model"]),
        attempt=number,
        earlier=earlier,
        approvals=_approvals(evidence, policy, target, now, workspace),
        charges=tuple(
            against(workspace.ledger, workspace.keyring, model=evidence.subjects["model"], datasets=evidence.datasets)
        ),
        training=_training(workspace.ledger, evidence.subjects.get("dataset", "")),
    )


def _training(ledger: Ledger, dataset: str) -> tuple[Manifest, ...]:
    """The manifest of the training records and those of its ancestors; nothing where one is missing."""
    found = list(ancestry(ledger, dataset).values())
    return tuple(one for one in found if one is not None) if None not in found else ()


def _approvals(
    evidence: Evidence, policy: PolicyConfig, target: Target, now: datetime, workspace: Workspace
) -> tuple[Approval, ...]:
    """Approvals of the evidence, where the policy asks for any."""
    if not any(rule["rule"] == "approved" for rule in policy.rules):
        return ()
    matter = Matter(evidence=evidence.id, model=evidence.subjects["model"], policy=policy, target=target)
    return tuple(counted(workspace.ledger, workspace.keyring, matter, now))


def _attempt(evidence: Evidence, target: Target, workspace: Workspace, *, signed: bool) -> tuple[int, tuple[str, ...]]:
    """The number of the attempt, charged, and the evidence ids before it; what is not signed costs nothing."""
    if not signed:
        return 1, ()
    charged = charge(workspace.ledger, evidence, target)
    return len(charged), tuple(charged[:-1])
