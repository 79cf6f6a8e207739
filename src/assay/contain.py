"""Stop what a poisoned record, batch, source or model reached: find it, mark it, say where to go back to.

What the incident is about, ingest takes no more; see `assay.incidents`.
Nothing is moved. An alias whose newest promotion is affected gets a suggestion, the last promotion of the same target
that is neither affected nor named by an earlier incident; moving it is a promotion, and a person's decision.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from assay import canonical, lineage
from assay.data.files import write_file
from assay.errors import UnfitInput
from assay.evidence import payload_id
from assay.ledger import put_first
from assay.registry import Registry
from assay.report.text import plain
from assay.signing import seal, statement
from assay.trace import trace
from assay.trace.index import Envelope, Index, place_of
from assay.trace.ref import Ref, Scope
from assay.workspace import Workspace

KIND = "incident"
TAG = "assay.quarantined"

__all__ = ["KIND", "TAG", "contain", "contain_paths"]


def contain(ref: str, workspace: Workspace, *, apply: bool = False, reason: str = "") -> dict[str, Any]:
    """List what a reference reached and still serves; with ``apply`` put it on record and mark it.

    A model version or an alias stands for the model behind it.

    Args:
        ref: as in `assay.trace.trace`.
        workspace: whose ledger, keys and registry.
        apply: write the signed incident and tag every affected version ``assay.quarantined=<incident>``.
        reason: why, for the incident.

    Returns:
        ``ref``; ``batches`` that it is about; ``models``: digests; ``versions``: ``<name>/<version>``;
        ``serving``: each alias that serves an affected model now, with ``version``, ``model``, ``sequence`` and
        ``rollback`` (version, model, sequence of the last promotion that is not affected, or None); ``applied``;
        ``incident``: its id, or empty; ``problems``: of the ledger, as in trace: with any, more may be affected than is
        listed.

    Raises:
        UnknownName: no such thing in the ledger.
        UnfitInput: to be applied without an evaluator's key.
        Unreachable: MLflow does not answer; the incident is on record, and the same command finishes the marking.
    """
    keyring = workspace.keyring
    traced = trace(ref, workspace.ledger, keyring)
    origin = next(node for node in traced["nodes"] if node["id"] == traced["ref"])
    if origin["kind"] in ("model_version", "alias"):
        traced = trace(f"model:{origin['model']}", workspace.ledger, keyring) | {"ref": traced["ref"]}
    index = Index.read(workspace.ledger, keyring)
    document = _affected(traced, index)
    incident = ""
    if apply and (document["models"] or document["batches"]):
        incident = _record(document, reason, index, workspace)
        registry = Registry(workspace)
        for name in document["versions"]:
            model, _, version = name.rpartition("/")
            registry.mark(model, version, TAG, incident)
    return document | {"applied": bool(incident), "incident": incident}


def _affected(traced: dict[str, Any], index: Index) -> dict[str, Any]:
    """What a trace reached, the models behind the versions and promotions included."""
    near = [node for node in traced["nodes"] if node["side"] != "upstream"]
    models = {node["id"].partition(":")[2] for node in near if node["kind"] == "model"}
    models |= {node["model"] for node in near if node["kind"] in ("promotion", "model_version")}
    serving = [found | {"rollback": _rollback(found, models, index)} for found in traced["reached"]["serving"]]
    return {
        "ref": traced["ref"],
        "batches": _batches(Scope.of(Ref.parse(traced["ref"])), index),
        "models": sorted(models),
        "versions": [name.partition(":")[2] for name in traced["reached"]["versions"]],
        "serving": serving,
        "problems": traced["problems"],
    }


def _batches(scope: Scope | None, index: Index) -> list[str]:
    """The batches that a reference is about, that of a record included."""
    return sorted(name for name in index.batches if scope is not None and scope.takes(*name.split("/")))


def _rollback(found: dict[str, Any], models: set[str], index: Index) -> dict[str, Any] | None:
    """The last verified promotion before the one that serves, of a model that nothing is known against."""
    place = found["alias"].partition(":")[2]
    earlier = [
        made
        for made in index.envelopes["promotions"].values()
        if place_of(made) == place and made.predicate["sequence"] < found["sequence"] and made.verified
    ]
    for made in sorted(earlier, key=_sequence, reverse=True):
        model = made.subjects["model"]
        if model not in models and model not in index.incidents:
            return {"version": index.version_of(made), "model": model, "sequence": _sequence(made)}
    return None


def _sequence(promotion: Envelope) -> int:
    return int(promotion.predicate["sequence"])


def _record(document: dict[str, Any], reason: str, index: Index, workspace: Workspace) -> str:
    """Write the signed incident, once; returns its id, which is the same for the same finding."""
    signers = workspace.signers("evaluator")
    if not signers:
        raise UnfitInput("key of role evaluator", "none", "one to sign the incident", "assay init makes one.")
    subjects = {f"model/{digest}": digest for digest in document["models"]}
    subjects |= {f"batch/{name}": index.batches[name]["sha256"] for name in document["batches"]}
    predicate = {name: document[name] for name in ("ref", "versions", "serving")} | {
        "reason": reason,
        "complete": not document["problems"],
        "run": {"written_at": datetime.now(UTC).isoformat()},
    }
    made = statement(KIND, subjects, predicate)
    incident = payload_id(made)
    put_first(workspace.ledger, f"incidents/{incident}.dsse.json", seal(made, signers))
    return incident


def contain_paths(ref: str, reason: str, findings: str, summary: str, run: str) -> str:
    """`contain`, applied, as a step of a pipeline.

    Returns:
        The action it calls for: ``retrain``, ``investigate`` or ``continue``.
    """
    workspace = Workspace.from_env()
    with lineage.step("contain", run, workspace) as record:
        document = contain(ref, workspace, apply=True, reason=reason)
        action = "retrain" if document["serving"] else "investigate" if document["models"] else "continue"
        write_file(findings, canonical.dumps(document | {"action": action}))
        write_file(summary, _markdown(document, action).encode())
        record.writes("incident", document["incident"], ref)
        record.tags |= {"assay.action": action, "assay.incident": document["incident"]}
        record.shows(summary)
    return action


def _markdown(document: dict[str, Any], action: str) -> str:
    rows = [f"| model | `{digest}` |" for digest in document["models"]]
    rows += [f"| version | {plain(name)} |" for name in document["versions"]]
    for found in document["serving"]:
        back = found["rollback"]
        where = f"promotion {back['sequence']}" if back else "no promotion that is not affected"
        rows.append(f"| serving now | {plain(found['alias'])}; go back to {where} |")
    rows += [
        f"| does not hold | {plain(problem['name'])}: {plain(problem['reason'])} |" for problem in document["problems"]
    ]
    table = ["| affected | |", "|---|---|", *rows] if rows else ["No model learned from it."]
    return "\n".join(
        [f"# {action}: {plain(document['ref'])}", "", f"Incident `{document['incident']}`", "", *table, ""]
    )
