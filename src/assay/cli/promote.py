"""``assay promote``: make a signed decision so, once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli._shared import Json, answer, leave


def command(
    decision: Annotated[Path | None, typer.Argument(help="The envelope written by gate.")] = None,
    evidence: Annotated[Path | None, typer.Argument(help="The evidence it rests on.")] = None,
    model: Annotated[Path | None, typer.Argument(help="The model folder that was measured.")] = None,
    target: Annotated[str, typer.Option(help="MODEL@ALIAS, as the decision names it.")] = "model@champion",
    out: Annotated[Path | None, typer.Option(help="The signed promotion to write, a copy of the ledger's.")] = None,
    run: Annotated[str, typer.Option(help="Id of the pipeline run.")] = "",
    rollback_to: Annotated[
        int | None, typer.Option(help="Go back to the model of this earlier promotion, by its sequence.")
    ] = None,
    reason: Annotated[str, typer.Option(help="With --rollback-to: why, for the signed record.")] = "",
    reconcile: Annotated[
        bool,
        typer.Option("--reconcile", help="Finish what a crash left, for every target; report aliases moved by hand."),
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="With --reconcile: put aliases moved by hand back.")
    ] = False,
    json: Json = False,
) -> None:
    """Register the model and move the alias; only from a signed decision whose digests match."""
    if reconcile:
        _reconcile(restore, json)
    from assay.promote import promote
    from assay.promotions import target_of
    from assay.rollback import rollback

    if rollback_to is not None:
        if decision is not None:
            raise typer.BadParameter("--rollback-to takes what it needs from the ledger: name no files")
        back = rollback(target_of(target), rollback_to, reason=reason, promotion=out, run=run)
        line = f"back at version {back['version']} of {back['model']} as {back['alias']}"
        answer(back, json, [f"{line}: promotion {back['sequence']} returns to {back['rollback_to'] or rollback_to}"])
        return
    if decision is None or evidence is None or model is None:
        raise typer.BadParameter("DECISION, EVIDENCE and MODEL are needed (or --reconcile, or --rollback-to)")
    document = promote(decision, evidence, model, target=target_of(target), promotion=out, run=run)
    later = (
        "" if document["head"] == document["sequence"] else f", since then promotion {document['head']} took the alias"
    )
    line = f"promoted {document['model']} version {document['version']} as {document['alias']}"
    answer(document, json, [f"{line}: promotion {document['sequence']} ({document['promotion'][:12]}){later}"])


def _reconcile(restore: bool, json: bool) -> None:
    from assay.reconcile import reconcile
    from assay.workspace import Workspace

    document: dict[str, Any] = reconcile(Workspace.from_env().with_ledger(), restore=restore)
    lines = [f"finished {name}" for name in document["finished"]]
    lines += [
        f"{moved['target']} was moved by hand to {moved['got'] or 'nothing'}; the signed promotions say {moved['need']}"
        + (", restored" if moved["restored"] else "")
        for moved in document["moved"]
    ]
    answer(document, json, lines or ["nothing to finish; every alias stands at its last promotion"])
    leave(1 if document["moved"] and not restore else 0)
