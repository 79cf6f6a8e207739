"""``assay filter``: records that carry poison leave for quarantine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli._shared import Json, answer


def command(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of a dataset.")],
    out: Annotated[Path, typer.Option(help="New folder for the records that stay.")],
    quarantine: Annotated[Path, typer.Option(help="New folder for the records that leave, with their reasons.")],
    trusted: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="Trusted records, which say what clean looks like.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Parquet file of every record's scores; default OUT.scores.parquet.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML of the section filter, or an assay.yaml.")] = None,
    page: Annotated[Path | None, typer.Option(help="HTML file for a report.")] = None,
    encoder: Annotated[
        str, typer.Option(metavar="MODEL", help="Model folder whose activations are looked at; else a proxy's.")
    ] = "",
    json: Json = False,
) -> None:
    """Look for poison in every class and divide the dataset."""
    from assay.cli._section import read_section
    from assay.config.encoder import EncoderConfig
    from assay.config.filters import FilterConfig
    from assay.data.files import require_places
    from assay.data.layout import MANIFEST
    from assay.filters.step import filter_poison

    settings = read_section(config, "filter", FilterConfig)
    scores = scores or out.parent / f"{out.name}.scores.parquet"
    require_places(scores, page, folders=[out, quarantine], holding=[MANIFEST])
    if encoder:
        settings = settings.model_copy(update={"encoder": EncoderConfig(model=encoder)})
    document = filter_poison(
        dataset,
        settings,
        kept=out,
        quarantine=quarantine,
        scores=scores,
        calibration=trusted,
        page=page,
    )
    silent = [f"  {name}: {why}" for name, why in document["silent"].items()]
    summary = f"{document['kept']} kept, {document['quarantined']} quarantined"
    answer(document, json, [*map(_line, document["classes"]), *silent, *_power(document["power"]), summary])


def _line(verdict: dict[str, Any]) -> str:
    """One class in words."""
    head = f"  class {verdict['label']:<15} {verdict['status']:<11}"
    if verdict["p_value"] is None:
        return f"{head}{verdict['records']} records, {verdict['trusted']} trusted: too few, or of one origin"
    tail = (
        f" {verdict['quarantined']} by {verdict['detector']} in {verdict['origin']}" if verdict["quarantined"] else ""
    )
    return f"{head}p = {verdict['p_value']:.3f}{tail}"


def _power(power: dict[str, Any] | None) -> list[str]:
    """What the self-test found, one line an estimate."""
    from assay.estimate import Estimate

    found = power["estimates"] if power else {}
    return [f"  {name}: {Estimate.from_json(estimate)}" for name, estimate in sorted(found.items())]
