"""``assay monitor``: is the world still the one the model was trained on?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli._shared import Json, answer, leave

CODES = {"continue": 0, "watch": 0, "investigate": 1, "retrain": 1, "undecided": 3}
SHOWN = 12

__all__ = ["command"]


def command(
    reference: Annotated[Path, typer.Option(metavar="DATASET", help="Folder of the dataset that counts as normal.")],
    current: Annotated[Path, typer.Option(metavar="DATASET", help="Folder of the production window.")],
    config: Annotated[Path | None, typer.Option(help="YAML of the section monitor, or an assay.yaml.")] = None,
    reference_digest: Annotated[str, typer.Option(help="Manifest digest that the reference must have.")] = "",
    out: Annotated[Path | None, typer.Option(help="File for the findings, as JSON.")] = None,
    page: Annotated[Path | None, typer.Option(help="HTML file for a report.")] = None,
    json: Json = False,
) -> None:
    """Compare a production window with a pinned reference; say what to do.

    Leaves with 0 for continue and watch, 1 for investigate and retrain, 3 for undecided.
    """
    from assay.cli._section import read_section
    from assay.config.base import parse
    from assay.config.monitor import MonitorConfig
    from assay.data.files import require_places
    from assay.monitor import monitor

    require_places(out, page)
    settings = read_section(config, "monitor", MonitorConfig)
    if reference_digest:
        settings = parse(MonitorConfig, settings.to_json() | {"reference_digest": reference_digest}, "monitor")
    document = monitor(reference, current, settings, findings=out, page=page)
    lines = [_line(finding) for finding in _ranked(document["findings"])[:SHOWN]]
    hidden = len(document["findings"]) - len(lines)
    more = [f"  and {hidden} more findings (--out writes all)"] if hidden else []
    summary = f"{document['action']}: {document['because']} Look again {document['next_check']}."
    answer(document, json, [*lines, *more, summary])
    leave(CODES[document["action"]])


def _ranked(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What could not be judged first, then by corrected p-value."""
    return sorted(findings, key=lambda found: -1.0 if found["p_value"] is None else found["adjusted_p_value"])


def _line(finding: dict[str, Any]) -> str:
    head = f"  {finding['action']:<12}{finding['feature']:<27} {finding['statistic']:<6}"
    if finding["p_value"] is None:
        return head + str(finding["trouble"])
    return head + f"p {finding['p_value']:.2g} (corrected {finding['adjusted_p_value']:.2g})  psi {finding['psi']:.3f}"
