"""``assay sanitize``: records that are not plausible leave for quarantine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer


def command(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of a dataset.")],
    out: Annotated[Path, typer.Option(help="New folder for the records that stay.")],
    quarantine: Annotated[Path, typer.Option(help="New folder for the records that leave, with their reasons.")],
    trusted: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="Trusted records, whose copies are flagged.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML of the section sanitize, or an assay.yaml.")] = None,
    page: Annotated[Path | None, typer.Option(help="HTML file for a report.")] = None,
    json: Json = False,
) -> None:
    """Check expectations on every record and divide the dataset."""
    from assay.cli._section import read_section
    from assay.config.sanitize import SanitizeConfig
    from assay.sanitize.step import sanitize

    document = sanitize(
        dataset,
        read_section(config, "sanitize", SanitizeConfig),
        kept=out,
        quarantine=quarantine,
        calibration=trusted,
        page=page,
    )
    failing = [
        f"  {it['type']:<48}{it['failing']:>9} of {it['evaluated']}" for it in document["expectations"] if it["failing"]
    ]
    reasons = [f"  {reason:<48}{count:>9}" for reason, count in document["reasons"].items()]
    flags = [f"  {reason:<48}{count:>9} flagged" for reason, count in document["flagged"].items()]
    constant = [f"  constant: {', '.join(document['constant'])}"] if document["constant"] else []
    summary = f"{document['kept']} kept, {document['quarantined']} quarantined"
    answer(document, json, [*failing, *reasons, *flags, *constant, summary])
