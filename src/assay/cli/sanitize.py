"""``assay sanitize``: records that are not plausible leave for quarantine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer


def command(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of a dataset.")],
    out: Annotated[Path | None, typer.Option(help="New folder for the records that stay.")] = None,
    quarantine: Annotated[
        Path | None, typer.Option(help="New folder for the records that leave, with their reasons.")
    ] = None,
    trusted: Annotated[
        Path | None,
        typer.Option(metavar="DATASET", help="Trusted records: their copies are flagged, detectors measured by them."),
    ] = None,
    propose: Annotated[
        Path | None, typer.Option(help="Only write a suite profiled from DATASET, of trusted records, to this file.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML of the section sanitize, or an assay.yaml.")] = None,
    page: Annotated[Path | None, typer.Option(help="HTML file for a report.")] = None,
    docs: Annotated[
        Path | None, typer.Option(help="HTML file for Great Expectations' own page, which the report links to.")
    ] = None,
    json: Json = False,
) -> None:
    """Check expectations on every record and divide the dataset."""
    from assay.cli._section import read_section
    from assay.config.sanitize import SanitizeConfig
    from assay.data.files import require_places
    from assay.data.layout import MANIFEST
    from assay.errors import UnfitInput
    from assay.sanitize.step import sanitize

    if propose is not None:
        return _propose(dataset, propose, json)
    if out is None or quarantine is None:
        raise UnfitInput("sanitize", "no --out or no --quarantine", "both, or --propose")
    require_places(page, docs, folders=[out, quarantine], holding=[MANIFEST])
    document = sanitize(
        dataset,
        read_section(config, "sanitize", SanitizeConfig),
        kept=out,
        quarantine=quarantine,
        calibration=trusted,
        page=page,
        docs=docs,
    )
    failing = [
        f"  {it['type']:<48}{it['failing']:>9} of {it['evaluated']}" for it in document["expectations"] if it["failing"]
    ]
    reasons = [f"  {reason:<48}{count:>9}" for reason, count in document["reasons"].items()]
    flags = [f"  {reason:<48}{count:>9} flagged" for reason, count in document["flagged"].items()]
    constant = [f"  constant: {', '.join(document['constant'])}"] if document["constant"] else []
    summary = f"{document['kept']} kept, {document['quarantined']} quarantined"
    answer(document, json, [*failing, *reasons, *flags, *constant, summary])
    return None


def _propose(dataset: Path, out: Path, json: bool) -> None:
    """Write a proposal and say what it would refuse."""
    from assay.data.files import require_places
    from assay.sanitize.propose import propose

    require_places(out)
    document = propose(dataset, out)
    said = f"at most a share of {document['alarm']:.3g} of clean records"
    answer(document, json, [f"{len(document['suite'])} expectations in {out}, to be reviewed; they refuse {said}"])
