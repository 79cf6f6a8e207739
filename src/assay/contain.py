"""Stop what a poisoned record, batch, source or model reached: find it, mark it, say where to go back to.

Nothing is moved. An alias whose newest promotion is affected gets a suggestion, the last promotion of the same target
that is neither affected nor named by an earlier incident; moving it is a promotion, and a person's decision.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from assay.errors import UnfitInput
from assay.evidence import payload_id
from assay.ledger import put_first
from assay.registry import Registry
from assay.signing import seal, statement
from assay.trace import trace
from assay.trace.index import Envelope, Index, place_of
from assay.workspace import Workspace

KIND = "incident"
TAG = "assay.quarantined"

__all__ = ["KIND", "TAG", "contain"]


def contain(ref: str, workspace: Workspace, *, apply: bool = False, reason: str = "") -> dict[str, Any]:
    """List what a reference reached and still serves; with ``apply`` put it on record and mark it.

    A model version or an alias stands for the model behind it.

    Args:
        ref: as in `assay.trace.trace`.
        workspace: whose ledger, keys and registry.
        apply: write the signed incident and tag every affected version ``assay.quarantined=<incident>``.
        reason: why, for the incident.

    Returns:
        ``ref``; ``models``: digests; ``versions``: ``<name>/<version>``; ``serving``: each alias that serves an
        affected model now, with ``version``, ``model``, ``sequence`` and ``rollback`` (version, model, sequence of the
        last promotion that is not affected, or None); ``applied``; ``incident``: its id, or empty; ``problems``: of
        the ledger, as in trace: with any, more may be affected than is listed.

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
    if apply and document["models"]:
        incident = _record(document, reason, workspace)
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
        "models": sorted(models),
        "versions": [name.partition(":")[2] for name in traced["reached"]["versions"]],
        "serving": serving,
        "problems": traced["problems"],
    }


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


def _record(document: dict[str, Any], reason: str, workspace: Workspace) -> str:
    """Write the signed incident, once; returns its id, which is the same for the same finding."""
    signers = workspace.signers("evaluator")
    if not signers:
        raise UnfitInput("key of role evaluator", "none", "one to sign the incident", "assay init makes one.")
    subjects = {f"model/{digest}": digest for digest in document["models"]}
    predicate = {name: document[name] for name in ("ref", "versions", "serving")} | {
        "reason": reason,
        "complete": not document["problems"],
        "run": {"written_at": datetime.now(UTC).isoformat()},
    }
    made = statement(KIND, subjects, predicate)
    incident = payload_id(made)
    put_first(workspace.ledger, f"incidents/{incident}.dsse.json", seal(made, signers))
    return incident
