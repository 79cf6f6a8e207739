"""A promotion's statement and its signature, and the check that what it promotes is in the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from assay import canonical
from assay.claim import Claim
from assay.errors import Refused
from assay.ledger import Ledger
from assay.promotions import KIND, Promotion
from assay.signing import seal, statement
from assay.workspace import Workspace

__all__ = ["next_statement", "require_kept", "sign_promotion"]


def next_statement(
    claim: Claim, bound: dict[str, str], last: Promotion | None, run: str, more: dict[str, Any]
) -> dict[str, Any]:
    """The statement of the promotion after ``last``.

    Args:
        claim: what was verified.
        bound: further digests it is about, by name.
        last: the target's last promotion, or None.
        run: id of the pipeline run.
        more: further fields of the predicate.
    """
    subjects = bound | {"model": claim.model, "evidence": claim.evidence, "decision": claim.decision}
    predicate = more | {
        "target": claim.target.to_json(),
        "sequence": last.sequence + 1 if last else 1,
        "previous": last.id if last else "",
        "decision": claim.decision,
        "evidence": claim.evidence,
        "policy": claim.policy,
        "run": {"id": run, "promoted_at": datetime.now(UTC).isoformat()},
    }
    return statement(KIND, subjects, predicate)


def sign_promotion(document: dict[str, Any], claim: Claim, workspace: Workspace) -> bytes:
    """The envelope, signed by the promoter.

    Raises:
        Refused: no key of role promoter, or the key that decided.
    """
    signers = workspace.signers("promoter")
    allowed = {entry.keyid for entry in workspace.keyring.for_role("promoter", datetime.now(UTC))} - {*claim.deciders}
    if not signers or any(signer.public_key.keyid not in allowed for signer in signers):
        raise Refused(
            "promoter key",
            "none that may sign" if signers else "none",
            "one of role promoter in the keyring, other than the key that decided",
            "assay init makes one for a laptop.",
        )
    return seal(document, signers)


def require_kept(model: str, ledger: Ledger) -> None:
    """The ledger's files of a model are exactly those that were measured."""
    prefix = f"models/{model}"
    copy = {name.removeprefix(f"{prefix}/"): canonical.sha256(ledger.get(name)) for name in ledger.names(f"{prefix}/")}
    if canonical.tree_digest(copy) != model:
        raise Refused(f"ledger {prefix}", "other files than the model's", "exactly those that were measured")
