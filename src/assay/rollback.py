"""Going back: a promotion too, signed, under the next sequence, of a model that was promoted before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay import lineage
from assay.claim import Claim
from assay.config.root import Target
from assay.data.files import require_places
from assay.errors import Conflict, Refused, UnfitInput
from assay.incidents import require_unaffected
from assay.promotion_copies import answer, finish, tell
from assay.promotion_seal import next_statement, require_kept, sign_promotion
from assay.promotions import Promotion, history, name_of, place_of
from assay.registry import Registry
from assay.workspace import Workspace

__all__ = ["rollback"]


def rollback(
    target: Target, sequence: int, *, reason: str, promotion: Path | None = None, run: str = ""
) -> dict[str, Any]:
    """Bring the model of an earlier promotion back, by a promotion under the next sequence.

    Asked again it finds its work done. A promotion that comes in between is not undone: then nothing happens, and
    whoever asked looks again.

    Args:
        target: the registered model and alias.
        sequence: of the earlier promotion.
        reason: why, for the record.
        promotion: the signed promotion to write, a copy of the ledger's.
        run: id of the pipeline run.

    Returns:
        As `promote`; ``version`` is the earlier one.

    Raises:
        UnfitInput: no such promotion, or no reason.
        Refused: what the earlier promotion rests on does not hold any more, an open incident reaches its model, or
            another promotion came in between; nothing was changed.
        Unreachable: MLflow does not answer; as for `promote`.
    """
    if not reason.strip():
        raise UnfitInput("--reason", "none", "why the model goes back, for the record")
    workspace = Workspace.from_env()
    require_places(promotion)
    with lineage.step("promote", run, workspace) as record:
        promotions = history(workspace.ledger, workspace.keyring, target)
        origin = _origin(promotions, sequence, target)
        claim = Claim.standing(origin, workspace.ledger, workspace.keyring)
        require_unaffected(claim.model, claim.measured.datasets, workspace.ledger, workspace.keyring)
        require_kept(claim.model, workspace.ledger)
        registry = Registry(workspace)
        registry.probe()
        committed = promotions[-1]
        if committed.origin != origin.id:
            committed = _commit_rollback(origin, committed, claim, reason, workspace, record.run)
        version, head = finish(committed, registry, workspace)
        tell(committed, version, promotion, None, record)
    return answer(committed, version, head)


def _origin(promotions: list[Promotion], sequence: int, target: Target) -> Promotion:
    """The promotion that made the version which promotion ``sequence`` stands for."""
    if not 1 <= sequence <= len(promotions):
        raise UnfitInput(f"target {place_of(target)}", f"promotion {sequence}", f"one of 1 to {len(promotions)}")
    return promotions[promotions[sequence - 1].origin_sequence - 1]


def _commit_rollback(
    origin: Promotion, head: Promotion, claim: Claim, reason: str, workspace: Workspace, run: str
) -> Promotion:
    back = {"rollback": {"sequence": origin.sequence, "promotion": origin.id, "reason": reason}}
    document = next_statement(claim, dict(origin.bound), head, run, back)
    sealed = sign_promotion(document, claim, workspace)
    made = Promotion.from_statement(document, "promotion")
    try:
        workspace.ledger.put(name_of(origin.target, made.sequence), sealed)
    except Conflict as error:
        raise Refused(
            f"target {place_of(origin.target)}",
            f"another promotion {made.sequence} meanwhile",
            f"promotion {head.sequence} as the last, as when this rollback began",
            "Look at what was promoted, then ask again.",
        ) from error
    return made
