"""``assay ingest``: batches of sources become one dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli._shared import Json, answer, leave

if TYPE_CHECKING:
    from assay.config.ingest import IngestConfig, SourceConfig
    from assay.config.sources import SourcesFile

SOURCES = Path("sources.yaml")


def command(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...", help="NAME=URI[,LABELS_URI], NAME/BATCH=URI, or a NAME in the sources file."
        ),
    ],
    out: Annotated[Path, typer.Option(help="New folder for dataset, calibration, holdout and quarantine.")],
    trusted: Annotated[
        list[str] | None, typer.Option(help="A source of highest trust: divided into calibration and hold-out.")
    ] = None,
    sources: Annotated[
        Path | None, typer.Option(help="File of sources by name; sources.yaml where there is one.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML of the section ingest, or an assay.yaml.")] = None,
    label: Annotated[str, typer.Option(help="The label's column; else as configured.")] = "",
    regression: Annotated[bool, typer.Option("--regression", help="The label is a quantity, not a class.")] = False,
    json: Json = False,
) -> None:
    """Read batches into a dataset; each bound in the ledger by its digest. 1 when a source may not contribute one."""
    from assay.cli._section import read_section
    from assay.config.base import parse
    from assay.config.ingest import IngestConfig
    from assay.config.sources import rules_beside
    from assay.data.files import require_places
    from assay.data.layout import MANIFEST
    from assay.ingest.admit import ruled
    from assay.ingest.step import ingest
    from assay.quarantine_seal import REJECTED

    settings = read_section(config, "ingest", IngestConfig)
    if label or regression:
        given = ({"label": label} if label else {}) | ({"task": "regression"} if regression else {})
        settings = parse(IngestConfig, settings.to_json() | given, "ingest")
    if config is not None:
        settings = rules_beside(settings, config.absolute().parent)
    known = _known(sources)
    settings = _with_rules(settings, known)
    chosen = [ruled(entry, settings) for entry in _chosen(source, set(trusted or ()), known.batches)]
    split = any(entry.trust == "trusted" for entry in chosen)
    places = {name: out / name for name in ("dataset", "calibration", "holdout", "quarantine")}
    require_places(folders=places.values(), holding=[MANIFEST, REJECTED])
    document = ingest(
        chosen,
        settings,
        dataset=places["dataset"],
        calibration=places["calibration"] if split else None,
        holdout=places["holdout"] if split else None,
        quarantine=places["quarantine"],
    )
    answer(document, json, _lines(document))
    leave(1 if document["rejected"] else 0)


def _chosen(given: Sequence[str], trusted: set[str], known: Sequence[SourceConfig]) -> list[SourceConfig]:
    """The batches that the arguments name."""
    from assay.errors import UnknownName

    chosen: list[SourceConfig] = []
    for text in given:
        name, equals, rest = text.partition("=")
        if equals:
            chosen.append(_inline(name, rest))
            continue
        named = [entry for entry in known if entry.name == name]
        if not named:
            raise UnknownName("source", name, {entry.name for entry in known})
        chosen += named
    for name in trusted - {entry.name for entry in chosen}:
        raise UnknownName("trusted source", name, {entry.name for entry in chosen})
    return [entry.model_copy(update={"trust": "trusted"}) if entry.name in trusted else entry for entry in chosen]


def _inline(name: str, rest: str) -> SourceConfig:
    """A batch from ``NAME=URI[,LABELS_URI]`` or ``NAME/BATCH=URI[,LABELS_URI]``."""
    from assay.config.base import parse
    from assay.config.ingest import SourceConfig

    source, _, batch = name.partition("/")
    uri, _, labels = rest.partition(",")
    return parse(SourceConfig, {"name": source, "batch": batch, "uri": uri, "labels_uri": labels}, f"source {name}")


def _known(file: Path | None) -> SourcesFile:
    """What the sources file says; without one, nothing."""
    from assay.config.sources import SourcesFile, read_sources

    return read_sources(file or SOURCES) if file is not None or SOURCES.exists() else SourcesFile()


def _with_rules(settings: IngestConfig, known: SourcesFile) -> IngestConfig:
    """The section with the rules of the sources file; two sets of rules that differ are an error."""
    from assay.errors import UnfitInput

    if not known.rules or settings.sources == known.rules:
        return settings
    if settings.sources:
        raise UnfitInput("sources", "other rules than ingest.sources of the configuration", "one set of rules")
    return settings.model_copy(update={"sources": known.rules})


def _lines(document: dict[str, Any]) -> list[str]:
    parts = [name for name in ("dataset", "calibration", "holdout", "quarantine") if name in document]
    lines = [
        f"{name:<12}{document[name]['records']:>9} records  {document[name]['digest'][:12]}  {document[name]['path']}"
        for name in parts
    ]
    lines += [f"  {reason:<20}{count:>9}" for reason, count in document["reasons"].items()]
    lines += [f"rejected    {it['batch']} by {it['check']}: {it['reason']}" for it in document["rejected"]]
    return [*lines, f"{document['kept']} kept, {document['quarantined']} quarantined"]
