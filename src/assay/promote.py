"""Promotion: make a signed decision so, once.

The create-once name ``promotions/<model>@<alias>/<sequence>`` in the ledger is the commit point. What follows, the
registry's version, its alias and the journal, is a copy that any later call finishes:

    1. verify decision, evidence and model folder against each other; nothing is written
    2. ask MLflow whether it is there; nothing is written when it is not
    3. commit: the signed promotion under the next sequence; who loses a race reads again and takes the next
    4. version, alias, alias read again
    5. journal/<model>@<alias>/<sequence>.json: done

The key of all this is the evidence id: the same measurement again is the same promotion. To go back is a promotion too
(`assay.rollback`): signed, under the next sequence, of a model that was promoted before.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assay import lineage
from assay.claim import Claim
from assay.config.root import Target
from assay.data.files import require_places
from assay.errors import AssayError, Conflict, Refused
from assay.incidents import require_unaffected
from assay.ledger import Ledger, put_first, put_folder
from assay.promotion_copies import MOST_RACES, answer, finish, tell
from assay.promotion_seal import next_statement, require_kept, sign_promotion
from assay.promotions import Promotion, champion, history, name_of, place_of
from assay.registry import Registry
from assay.workspace import Workspace

__all__ = ["promote"]


def promote(
    decision: Path,
    evidence: Path,
    model: Path,
    *,
    target: Target,
    promotion: Path | None = None,
    summary: Path | None = None,
    run: str = "",
) -> dict[str, Any]:
    """Promote a model on a signed decision.

    Args:
        decision: envelope written by the gate.
        evidence: the envelope it rests on.
        model: the model folder, byte for byte the one measured.
        target: the registered model and alias; the decision names the same.
        promotion: the signed promotion to write, a copy of the ledger's.
        summary: a Markdown page to write.
        run: id of the pipeline run.

    Returns:
        ``promoted`` (true), ``model`` (its registered name), ``version``, ``alias``, ``sequence``, ``promotion``,
        ``evidence`` and ``decision`` (ids), ``rollback_to`` (0 for none), and ``head``, the target's highest sequence:
        the alias stands there.

    Raises:
        Refused: decision, evidence, model and target do not belong together, or are expired or not signed as they
            must be, or an open incident reaches the model or the records it was measured on; nothing was changed.
        Unreachable: MLflow does not answer. Before the commit nothing was changed; after it, the next call finishes.
    """
    workspace = Workspace.from_env()
    require_places(promotion, summary)
    with lineage.step("promote", run, workspace) as record:
        claim = Claim.verify(decision, evidence, model, target, workspace.keyring, datetime.now(UTC))
        require_unaffected(claim.model, claim.measured.datasets, workspace.ledger, workspace.keyring)
        registry = Registry(workspace)
        registry.probe()
        committed = _commit(claim, model, workspace, record.run)
        version, head = finish(committed, registry, workspace)
        tell(committed, version, promotion, summary, record)
    return answer(committed, version, head)


def _commit(claim: Claim, model: Path, workspace: Workspace, run: str) -> Promotion:
    """The promotion of the evidence: the one that is there, or a new one under the next free sequence."""
    ledger = workspace.ledger
    for _ in range(MOST_RACES):
        promotions = history(ledger, workspace.keyring, claim.target)
        there = next((made for made in promotions if made.evidence == claim.evidence), None)
        if there is not None:
            return there
        document = _next(claim, promotions, run)
        sealed = sign_promotion(document, claim, workspace)
        _keep(claim, model, ledger)
        made = Promotion.from_statement(document, "promotion")
        try:
            ledger.put(name_of(claim.target, made.sequence), sealed)
        except Conflict:  # another promotion took this sequence: read again, decide again
            continue
        return made
    raise AssayError(f"target {place_of(claim.target)}", f"{MOST_RACES} lost races", "a free sequence", "Run it again.")


def _next(claim: Claim, promotions: list[Promotion], run: str) -> dict[str, Any]:
    """The statement of the promotion after those, provided the champion is still the one it was compared with."""
    now = champion(promotions, besides=claim.model)
    if claim.champion is not None and claim.champion != now:
        raise Refused(
            f"target {place_of(claim.target)}",
            f"model {now[:12] or 'none'} as champion",
            f"{claim.champion[:12] or 'none'}, with which the decision compared",
            "Another model was promoted meanwhile: evaluate against it and decide again.",
        )
    bound = {"policy": claim.policy} | {f"file/{name}": digest for name, digest in claim.files.items()}
    bound |= {
        name: claim.measured.subjects[name] for name in ("dataset", "holdout") if claim.measured.subjects.get(name)
    }
    return next_statement(claim, bound, promotions[-1] if promotions else None, run, {})


def _keep(claim: Claim, model: Path, ledger: Ledger) -> None:
    """Put what the promotion rests on into the ledger, and check the model's copy there: serving loads that one."""
    for name, data in claim.envelopes.items():
        put_first(ledger, name, data)
    put_folder(ledger, f"models/{claim.model}", model)
    require_kept(claim.model, ledger)
