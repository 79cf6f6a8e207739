"""``assay quarantine list | show | release | purge``: why records left, what they hold, their way back, their end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer, leave

app = typer.Typer(help="Show, put back or delete records that left a dataset.", no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(metavar="QUARANTINE", help="Folder of a quarantine.")]


@app.command("list")
def list_reasons(quarantine: Folder, json: Json = False) -> None:
    """Count the records by source and reason, and name the batches that were rejected."""
    from assay.quarantine import summary

    document = summary(quarantine)
    lines = [
        f"{source:<24}{reason:<56}{count:>9}"
        for source, counts in document["sources"].items()
        for reason, count in counts.items()
    ]
    lines += [f"{it['batch']:<24}rejected by {it['check']}: {it['reason']!a}" for it in document["rejected"]]
    counts = f"{document['records']} records, {document['raw']} rows kept raw"
    answer(document, json, [*lines, f"{counts}, {len(document['rejected'])} batches rejected"])


@app.command("show")
def show_records(
    quarantine: Folder,
    record: Annotated[list[str] | None, typer.Option(help="A record id; may be given again.")] = None,
    reason: Annotated[str, typer.Option(help="Only records with this reason.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    json: Json = False,
) -> None:
    """Print records with their findings, and the batches that were rejected."""
    from assay.quarantine import show

    document = show(quarantine, record or (), reason, limit)
    lines = []
    for entry in document["records"]:
        why = ", ".join(f"{it['reason']} ({it['action']})" for it in entry["findings"])
        lines += [f"{entry['record_id']}  {why}", f"    {ascii(entry.get('cells') or entry.get('raw'))[:400]}"]
    for it in document["rejected"]:
        lines += [f"{it['batch']}  rejected by {it['check']}", f"    {ascii(it['reason'])[:400]}"]
    answer(document, json, [*lines, f"{document['shown']} of {document['matching']} shown"])


@app.command("release")
def release_records(
    quarantine: Folder,
    kept: Annotated[Path, typer.Option(metavar="DATASET", help="The dataset they go back to; stays as it is.")],
    out: Annotated[Path, typer.Option(help="New folder for both together.")],
    record: Annotated[list[str] | None, typer.Option(help="A record id; may be given again. Without: all.")] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--override-incident", help="Release in spite of this open incident; needs --reason."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why an exception is made; signed.")] = "",
    allow_unsigned: Annotated[
        bool, typer.Option("--allow-unsigned", help="Take a quarantine that nobody signed; needs --reason.")
    ] = False,
    json: Json = False,
) -> None:
    """Join quarantined records with the kept ones into a new dataset.

    Refused (1) where the quarantine's signature does not hold, or an open incident is about a record.
    """
    from assay.data.files import require_places
    from assay.data.layout import MANIFEST
    from assay.release import release

    require_places(folders=[out], holding=[MANIFEST])
    document = release(
        quarantine,
        kept,
        out,
        ids=record or None,
        override=override or (),
        reason=reason,
        allow_unsigned=allow_unsigned,
    )
    line = (
        f"{document['released']} released; {document['kept']} records in {out} ({document['dataset']['digest'][:12]})"
    )
    answer(document, json, [line])


@app.command("purge")
def purge_records(
    quarantine: Folder,
    reason: Annotated[str, typer.Option(help="Why, for the signed statement.")] = "",
    apply: Annotated[bool, typer.Option("--apply", help="Record it and delete the records for good.")] = False,
    json: Json = False,
) -> None:
    """Delete the records of a quarantine; manifest, reasons and a signed statement stay.

    Without --apply it says what would go and leaves with 1. Copies elsewhere, such as pipeline artifacts, stay.
    """
    from assay.purge import purge
    from assay.workspace import Workspace

    document = purge(quarantine, Workspace.from_env(), reason=reason, apply=apply)
    done = f"deleted, {document['statement']}" if document["purged"] else "--apply deletes them for good"
    answer(document, json, [f"{document['records']} records, {document['raw']} rows kept raw: {done}"])
    leave(0 if document["purged"] else 1)
