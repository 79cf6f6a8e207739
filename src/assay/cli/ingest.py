"""``assay ingest``: batches of sources become one dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli._shared import Json, answer

if TYPE_CHECKING:
    from assay.config.ingest import SourceConfig

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
    json: Json = False,
) -> None:
    """Read batches into a dataset, each bound in the ledger by its digest."""
    from assay.cli._section import read_section
    from assay.config.ingest import IngestConfig
    from assay.ingest.step import ingest

    settings = read_section(config, "ingest", IngestConfig)
    if label:
        settings = settings.model_copy(update={"label": label})
    chosen = _chosen(source, set(trusted or ()), sources)
    split = any(entry.trust == "trusted" for entry in chosen)
    document = ingest(
        chosen,
        settings,
        dataset=out / "dataset",
        calibration=out / "calibration" if split else None,
        holdout=out / "holdout" if split else None,
        quarantine=out / "quarantine",
    )
    answer(document, json, _lines(document))


def _chosen(given: Sequence[str], trusted: set[str], file: Path | None) -> list[SourceConfig]:
    """The batches that the arguments name."""
    from assay.errors import UnknownName

    known = _listed(file)
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


def _listed(file: Path | None) -> Sequence[SourceConfig]:
    """The sources of the file; relative paths in it are relative to its folder."""
    from assay import canonical
    from assay.config.ingest import parse_sources

    if file is None and not SOURCES.exists():
        return ()
    path = file or SOURCES
    found = parse_sources(canonical.read_yaml(path), str(path))
    return [
        entry.model_copy(update={key: _beside(getattr(entry, key), path.parent) for key in ("uri", "labels_uri")})
        for entry in found
    ]


def _beside(uri: str, folder: Path) -> str:
    return uri if not uri or "://" in uri else str(folder / uri)


def _lines(document: dict[str, Any]) -> list[str]:
    parts = [name for name in ("dataset", "calibration", "holdout", "quarantine") if name in document]
    lines = [
        f"{name:<12}{document[name]['records']:>9} records  {document[name]['digest'][:12]}  {document[name]['path']}"
        for name in parts
    ]
    lines += [f"  {reason:<20}{count:>9}" for reason, count in document["reasons"].items()]
    return [*lines, f"{document['kept']} kept, {document['quarantined']} quarantined"]
