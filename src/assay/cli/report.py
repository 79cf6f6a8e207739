"""``assay report``: one page about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer

Kept = Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Dataset folder: what the step kept.")]
Removed = Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Dataset folder: what it took out.")]
Table = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Parquet file.")]
Envelope = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Signed envelope, *.dsse.json.")]


def command(
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    run_folder: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="A run's folder: everything is <task>/<output> below it."),
    ] = None,
    dataset: Kept = None,
    ingest_quarantine: Removed = None,
    kept: Kept = None,
    sanitize_quarantine: Removed = None,
    filtered: Kept = None,
    filter_quarantine: Removed = None,
    scores: Table = None,
    evidence: Envelope = None,
    outcomes: Table = None,
    decision: Envelope = None,
    promotion: Envelope = None,
    estimates: Annotated[
        Path | None, typer.Option(help="JSON of further estimates by name, such as backdoor_success_unfiltered.")
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "",
    run: Annotated[str, typer.Option(help="Id of the pipeline run.")] = "",
    json: Json = False,
) -> None:
    """Write one self-contained page about a run: the verdict, every rule, what was removed and why, who signed what.

    Name a run's folder, or its files one by one, or both (a file named wins). What is missing is said to be.
    """
    from assay.data.files import require_places
    from assay.errors import UnfitInput
    from assay.report.inputs import ReportInputs, read_estimates
    from assay.report.step import report

    given = {
        "dataset": dataset,
        "ingest_quarantine": ingest_quarantine,
        "kept": kept,
        "sanitize_quarantine": sanitize_quarantine,
        "filtered": filtered,
        "filter_quarantine": filter_quarantine,
        "scores": scores,
        "evidence": evidence,
        "outcomes": outcomes,
        "decision": decision,
        "promotion": promotion,
    }
    places = {name: path for name, path in given.items() if path is not None}
    if run_folder is None and not places:
        raise UnfitInput("assay report", "nothing to report on", "--run-folder, or at least one file of a run")
    require_places(out)
    inputs = ReportInputs.of(
        (ReportInputs.in_folder(run_folder).places if run_folder else {}) | places,
        read_estimates(estimates) if estimates else None,
    )
    document = report(inputs, out, run=run, title=title)
    lines = [f"{name.replace('_', ' ')}: {why}" for name, why in document["problems"].items()]
    checked = "verified" if document["verified"] else "NOT verified"
    lines += [f"{document['decision'] or 'no decision'} ({checked})", str(out)]
    answer(document, json, lines)
