"""``assay contain``: what a reference reached and still serves, and, with --apply, a signed incident."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from assay.cli._shared import Json, answer, leave, notes

DIGITS = 12

__all__ = ["command"]


def command(
    ref: Annotated[str, typer.Argument(metavar="REF", help="As for assay trace, such as batch:vendor-c/2026-10.")],
    apply: Annotated[bool, typer.Option("--apply", help="Sign an incident and mark the affected versions.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the incident.")] = "",
    json: Json = False,
) -> None:
    """List what learned from something: models, versions and aliases; no alias is moved.

    Leaves with 0 when nothing is affected or --apply did its work, 1 when something is, 3 when the ledger is damaged.
    """
    from assay.contain import contain
    from assay.workspace import Workspace

    document = contain(ref, Workspace.from_env().with_ledger(), apply=apply, reason=reason)
    answer(document, json, _lines(document))
    for problem in document["problems"]:
        notes.print(f"does not hold: {problem['name']}: {problem['reason']}", markup=False)
    found = bool(document["models"] or document["serving"])
    leave(3 if document["problems"] else int(found and not document["applied"]))


def _lines(document: dict[str, Any]) -> list[str]:
    affected = [f"  model {digest[:DIGITS]}" for digest in document["models"]]
    affected += [f"  version {name}" for name in document["versions"]]
    serving = [line for found in document["serving"] for line in _serving(found)]
    counts = f"{len(document['models'])} model(s), {len(document['versions'])} version(s) affected"
    said = f"{counts}, {len(document['serving'])} alias(es) serving"
    if not affected and not serving:
        said = f"{document['ref']}: no model learned from it"
    return [*affected, *serving, f"{said}: {_done(document)}"]


def _done(document: dict[str, Any]) -> str:
    if document["applied"]:
        return f"incident {document['incident'][:DIGITS]} signed; ingest, gate and promote refuse what it reaches"
    return "--apply puts it on record, marks the versions, and has ingest, gate and promote refuse what it reaches"


def _serving(found: dict[str, Any]) -> list[str]:
    back = found["rollback"]
    named = f"{back['version'] or back['model'][:DIGITS]}, promotion {back['sequence']}" if back else "none is known"
    return [
        f"  serving now: {found['alias']} at {found['version'] or found['model'][:DIGITS]}",
        f"    last promotion not affected: {named}",
    ]
