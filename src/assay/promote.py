"""Promotion: make a signed decision so, once.

The create-once name ``promotions/<model>@<alias>/<sequence>`` in the ledger is the commit point. What follows, the
registry's version, its alias and the journal, is a copy that any later call finishes:

    1. verify decision, evidence and model folder against each other; nothing is written
    2. ask MLflow whether it is there; nothing is written when it is not
    3. commit: the signed promotion under the next sequence; who loses a race reads again and takes the next
    4. version, alias, alias read again
    5. journal/<model>@<alias>/<sequence>.json: done

The key of all this is the evidence id: the same measurement again is the same promotion. To go back is a promotion too
(`rollback`): signed, under the next sequence, of a model that was promoted before.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assay import canonical, lineage
from assay.claim import Claim
from assay.config.root import Target
from assay.data.files import write_file
from assay.errors import AssayError, Conflict, Refused, UnfitInput
from assay.incidents import require_unaffected
from assay.ledger import Ledger, put_first, put_folder
from assay.promotions import KIND, Promotion, champion, history, journal_name, name_of, place_of, targets
from assay.registry import Registry
from assay.signing import seal, statement
from assay.workspace import Workspace

MOST_RACES = 1000  # lost in a row; far beyond what any number of gates can cause

__all__ = ["promote", "reconcile", "rollback"]


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
    _require_writable(promotion, summary)
    with lineage.step("promote", run, workspace) as record:
        claim = Claim.verify(decision, evidence, model, target, workspace.keyring, datetime.now(UTC))
        require_unaffected(claim.model, claim.measured.data, workspace.ledger, workspace.keyring)
        registry = Registry(workspace)
        registry.probe()
        committed = _commit(claim, model, workspace, record.run)
        version, head = _finish(committed, registry, workspace)
        _tell(committed, version, promotion, summary, record)
    return _answer(committed, version, head)


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
    _require_writable(promotion)
    with lineage.step("promote", run, workspace) as record:
        promotions = history(workspace.ledger, workspace.keyring, target)
        origin = _origin(promotions, sequence, target)
        claim = Claim.standing(origin, workspace.ledger, workspace.keyring)
        require_unaffected(claim.model, claim.measured.data, workspace.ledger, workspace.keyring)
        _require_kept(claim.model, workspace.ledger)
        registry = Registry(workspace)
        registry.probe()
        committed = promotions[-1]
        if committed.origin != origin.id:
            committed = _commit_rollback(origin, committed, claim, reason, workspace, record.run)
        version, head = _finish(committed, registry, workspace)
        _tell(committed, version, promotion, None, record)
    return _answer(committed, version, head)


def reconcile(workspace: Workspace, *, restore: bool = False) -> dict[str, Any]:
    """Finish what a crash left between commit and journal, for every target.

    Args:
        workspace: whose ledger and registry.
        restore: put an alias that was moved by hand back to the last promotion; without it the alias is only reported,
            since somebody may have had a reason.

    Returns:
        ``finished``: promotions that now have version, alias and journal, as ``<model>@<alias>/<sequence>``;
        ``moved``: aliases that do not stand at the last promotion though its journal says they did, each with
        ``target``, ``got``, ``need`` and ``restored``.

    Raises:
        Refused: the ledger's chain of promotions does not hold.
        Unreachable: MLflow does not answer.
    """
    registry, ledger = Registry(workspace), workspace.ledger
    registry.probe()
    finished, moved = [], []
    for target in targets(ledger):
        promotions = history(ledger, workspace.keyring, target)
        done = set(ledger.names(f"journal/{place_of(target)}/"))
        for made in promotions:
            if journal_name(made) not in done:
                _finish(made, registry, workspace)
                finished.append(f"{place_of(target)}/{made.sequence}")
        head, got = promotions[-1], registry.aliases(target.model).get(target.alias, "")
        need = registry.register(head)
        if got != need:
            if restore:
                _point_at_head(registry, workspace, target)
            moved.append({"target": place_of(target), "got": got, "need": need, "restored": restore})
    return {"finished": finished, "moved": moved}


def _commit(claim: Claim, model: Path, workspace: Workspace, run: str) -> Promotion:
    """The promotion of the evidence: the one that is there, or a new one under the next free sequence."""
    ledger = workspace.ledger
    for _ in range(MOST_RACES):
        promotions = history(ledger, workspace.keyring, claim.target)
        there = next((made for made in promotions if made.evidence == claim.evidence), None)
        if there is not None:
            return there
        document = _next(claim, promotions, run)
        sealed = _sign(document, claim, workspace)
        _keep(claim, model, ledger)
        made = Promotion.from_statement(document, "promotion")
        try:
            ledger.put(name_of(claim.target, made.sequence), sealed)
        except Conflict:  # another promotion took this sequence: read again, decide again
            continue
        return made
    raise AssayError(f"target {place_of(claim.target)}", f"{MOST_RACES} lost races", "a free sequence", "Run it again.")


def _origin(promotions: list[Promotion], sequence: int, target: Target) -> Promotion:
    """The promotion that made the version which promotion ``sequence`` stands for."""
    if not 1 <= sequence <= len(promotions):
        raise UnfitInput(f"target {place_of(target)}", f"promotion {sequence}", f"one of 1 to {len(promotions)}")
    return promotions[promotions[sequence - 1].origin_sequence - 1]


def _commit_rollback(
    origin: Promotion, head: Promotion, claim: Claim, reason: str, workspace: Workspace, run: str
) -> Promotion:
    back = {"rollback": {"sequence": origin.sequence, "promotion": origin.id, "reason": reason}}
    document = _statement(claim, dict(origin.bound), head, run, back)
    sealed = _sign(document, claim, workspace)
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
    return _statement(claim, bound, promotions[-1] if promotions else None, run, {})


def _statement(
    claim: Claim, bound: dict[str, str], last: Promotion | None, run: str, more: dict[str, Any]
) -> dict[str, Any]:
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


def _sign(document: dict[str, Any], claim: Claim, workspace: Workspace) -> bytes:
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


def _keep(claim: Claim, model: Path, ledger: Ledger) -> None:
    """Put what the promotion rests on into the ledger, and check the model's copy there: serving loads that one."""
    for name, data in claim.envelopes.items():
        put_first(ledger, name, data)
    put_folder(ledger, f"models/{claim.model}", model)
    _require_kept(claim.model, ledger)


def _require_kept(model: str, ledger: Ledger) -> None:
    """The ledger's files of a model are exactly those that were measured."""
    prefix = f"models/{model}"
    copy = {name.removeprefix(f"{prefix}/"): canonical.sha256(ledger.get(name)) for name in ledger.names(f"{prefix}/")}
    if canonical.tree_digest(copy) != model:
        raise Refused(f"ledger {prefix}", "other files than the model's", "exactly those that were measured")


def _require_writable(*outputs: Path | None) -> None:
    """The outputs can be written: asked before anything is done, since a promotion is not undone for want of a file."""
    for path in outputs:
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as error:
            raise UnfitInput(str(path), error.strerror or str(error), "a file that can be written") from error


def _tell(made: Promotion, version: str, copy: Path | None, summary: Path | None, record: lineage.StepRecord) -> None:
    """The outputs of the step and its record."""
    if copy is not None:
        write_file(copy, record.ledger.get(name_of(made.target, made.sequence)))
    if summary is not None:
        write_file(summary, _markdown(made, version).encode())
    for kind in ("decision", "evidence", "model"):
        record.reads(kind, getattr(made, kind))
    record.writes("promotion", made.id, place_of(made.target))
    record.tags |= {"assay.promotion": made.id, "assay.model_version": f"{made.target.model}/{version}"}


def _answer(made: Promotion, version: str, head: int) -> dict[str, Any]:
    return {
        "promoted": True,
        "model": made.target.model,
        "version": version,
        "alias": made.target.alias,
        "sequence": made.sequence,
        "rollback_to": made.origin_sequence if made.is_rollback else 0,
        "promotion": made.id,
        "evidence": made.evidence,
        "decision": made.decision,
        "head": head,
    }


def _markdown(promotion: Promotion, version: str) -> str:
    facts = {
        "version": f"{promotion.target.model}/{version}",
        "sequence": str(promotion.sequence),
        "promotion": promotion.id,
        "evidence": promotion.evidence,
        "decision": promotion.decision,
        "model": promotion.model,
    }
    return "\n".join(
        [f"# Promoted to `{place_of(promotion.target)}`", "", *(f"- {k}: `{v}`" for k, v in facts.items()), ""]
    )


def _finish(promotion: Promotion, registry: Registry, workspace: Workspace) -> tuple[str, int]:
    """Version, alias, journal; returns the version and the target's highest sequence."""
    version = registry.register(promotion)
    head = _point_at_head(registry, workspace, promotion.target)
    note = {"schema": "assay.journal/v1", "promotion": promotion.id, "version": version}
    put_first(workspace.ledger, journal_name(promotion), canonical.dumps(note))
    return version, head


def _point_at_head(registry: Registry, workspace: Workspace, target: Target) -> int:
    """Set the alias to the last promotion's version and look again until both agree.

    MLflow sets an alias without asking what was there. So whoever set it reads the ledger once more: a promotion that
    was committed meanwhile is the one that counts, and the last to set the alias has always seen the last commit.
    """
    for _ in range(MOST_RACES):
        last = history(workspace.ledger, workspace.keyring, target)[-1]
        version = registry.register(last)
        if registry.aliases(target.model).get(target.alias) == version:
            return last.sequence
        registry.point(last, version)
    raise AssayError(
        f"alias {place_of(target)}", f"moved {MOST_RACES} times meanwhile", "one that stays", "Run it again."
    )
