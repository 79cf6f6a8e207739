"""The step ``ingest``: batches of sources become one dataset, bound in the ledger before anything is made of them.

1. fetch every batch and take its SHA-256; a name bound to other bytes is refused before anything is parsed;
2. where sources have rules, reject and keep aside what a source may not contribute: place, trust, signature, limits;
3. read it strictly; rows that no schema can hold are kept raw;
4. check that all batches have one schema and at least two classes;
5. divide the trusted records into calibration and hold-out, and take records out that equal a hold-out record;
6. bind the batches in the ledger, then write every output whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from assay import lineage
from assay.config.base import parse_json
from assay.config.ingest import IngestConfig, SourceConfig, parse_sources
from assay.data.files import temporary_folder, write_file
from assay.data.findings import REMOVING
from assay.errors import UnfitInput
from assay.ingest.admit import ruled
from assay.ingest.fetch import Fetched, bind
from assay.ingest.parts import Parts, divide
from assay.ingest.take import Taken, keep_aside, rejected_bytes, require_some, take_all
from assay.quarantine_seal import REJECTED

OUTPUTS = {"quarantine": "quarantine", "holdout": "holdout", "calibration": "calibration", "dataset": "training"}

__all__ = ["ingest", "ingest_json"]


def ingest(
    sources: Sequence[SourceConfig],
    config: IngestConfig,
    *,
    dataset: Path,
    calibration: Path | None,
    holdout: Path | None,
    quarantine: Path,
    summary: Path | None = None,
    run: str = "",
) -> dict[str, Any]:
    """Read batches into a dataset.

    Args:
        sources: one entry a batch.
        config: how to read them.
        dataset: folder for the records of the sources that are not trusted.
        calibration: folder for the trusted records that filter, sanitize and monitor see; None, with ``holdout``, when
            there is no trusted source and none is needed.
        holdout: folder for the trusted records that only evaluate sees.
        quarantine: folder for records that equal a hold-out record, ``raw.jsonl`` for rows no schema can hold, and
            ``rejected.jsonl`` and ``rejected/`` for batches that their source may not contribute.
        summary: Markdown file for the counts, or None.
        run: id of the pipeline run.

    Returns:
        The document of ``assay ingest``.

    Raises:
        UnfitInput: a batch that is not fit where no rule says who may contribute, or no trusted source; nothing was
            written.
        Refused: every batch was rejected; they are kept aside in ``quarantine``.
        Conflict: a batch name is bound to other bytes.
        Unreachable: an object store does not answer.
    """
    chosen = sorted(sources, key=lambda source: (source.name, source.batch_name))
    chosen = [ruled(source, config) for source in chosen]
    _require_sources(chosen, trusted=calibration is not None or holdout is not None)
    places = {"dataset": dataset, "calibration": calibration, "holdout": holdout, "quarantine": quarantine}
    with lineage.step("ingest", run) as record, ExitStack() as files:
        spool = files.enter_context(temporary_folder(dataset.with_name(f"{dataset.name}-rows")))
        taken = take_all(chosen, config, files, record.ledger, record.workspace.keyring, spool)
        require_some(taken, quarantine, record.workspace, trusted=holdout is not None)
        batches = taken.batches
        parts = divide(taken, config, places, files)
        _require_room(parts)
        bind(record.ledger, batches)
        for batch in batches:
            record.reads("batch", batch.sha256, batch.delivery.name)
        _write(record, parts, taken)
        if summary is not None:
            write_file(summary, _markdown(taken, parts).encode())
        came = [_came(batch) for batch in taken.batches]
        return _document(parts, places) | {"batches": came, "rejected": [it.to_json() for it in taken.rejected]}


def ingest_json(sources: str, config: str, *, run: str = "", **places: str) -> dict[str, Any]:
    """`ingest` with everything as text, as a pipeline carries it."""
    paths: dict[str, Any] = {name: Path(place) for name, place in places.items()}
    return ingest(parse_sources(sources), parse_json(IngestConfig, config, "ingest"), run=run, **paths)


def _require_sources(sources: Sequence[SourceConfig], *, trusted: bool) -> None:
    names = Counter(f"{source.name}/{source.batch_name}" for source in sources)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise UnfitInput(f"batch {twice}", "it twice", "each batch once", "Give every file its own batch name.")
    if not sources:
        raise UnfitInput("sources", "none", "at least one")
    given = any(source.trust == "trusted" for source in sources)
    if trusted and not given:
        raise UnfitInput(
            "sources",
            "no trusted source",
            "one with trust: trusted, for calibration and hold-out",
            "A model is only ever tested on records that no supplier could touch.",
        )
    if given and not trusted:
        raise UnfitInput("sources", "a trusted source", "folders for calibration and hold-out")


def _require_room(parts: Parts) -> None:
    for name in OUTPUTS:
        part = getattr(parts, name)
        if part is not None:
            part.require_room()


def _write(record: lineage.StepRecord, parts: Parts, taken: Taken) -> None:
    """What lies beside the records, and everything into the ledger; the folders get their names after that."""
    findings = parts.findings.bytes()
    record.finds_bytes(findings if len(parts.findings) else b"")
    folder = parts.quarantine.folder
    (folder / "findings.parquet").write_bytes(findings)
    if taken.rejected:
        (folder / REJECTED).write_bytes(rejected_bytes(taken.rejected))
    keep_aside(folder, taken.rejected, record.workspace)
    for name, context in OUTPUTS.items():
        part = getattr(parts, name)
        if part is not None:
            record.makes(part, context)


def _markdown(taken: Taken, parts: Parts) -> str:
    """Records of every batch in every output, as a table."""
    names = [name for name in ("dataset", "calibration", "holdout", "quarantine") if getattr(parts, name) is not None]
    counts = {
        name: {
            f"{share.source}/{share.batch}": share.records for share in getattr(parts, name).manifest.history.sources
        }
        for name in names
    }
    raw = {rows.name: rows.refused for rows in taken.read}
    lines = [f"| batch | trust | {' | '.join(names)} | kept raw |", f"|---|---|{'---:|' * (len(names) + 1)}"]
    for batch in taken.batches:
        name, source = batch.delivery.name, batch.source
        cells = [str(counts[part].get(name, 0)) for part in names]
        lines.append(f"| {name} | {source.trust} | {' | '.join(cells)} | {raw[name]} |")
    lines += [
        f"| {it.name} | {it.source.trust} | {' | '.join('-' for _ in names)} | rejected: {it.check} |"
        for it in taken.rejected
    ]
    return "\n".join(lines) + "\n"


def _came(batch: Fetched) -> dict[str, Any]:
    """Where a batch came from: what a re-run needs to ask for the very same objects."""
    source = batch.source
    where = {"data": source.uri} | ({"labels": source.labels_uri} if source.labels_uri else {})
    facts = {"trust": source.trust, "uploader": batch.uploader, "sha256": batch.sha256}
    return {"batch": batch.delivery.name, "uris": where, "versions": dict(batch.versions), **facts}


def _document(parts: Parts, places: Mapping[str, Path | None]) -> dict[str, Any]:
    reasons = parts.findings.counts(*REMOVING)
    made = {
        name: {"path": str(place), "digest": part.manifest.digest, "content_digest": part.manifest.content_digest}
        | {"records": len(part)}
        for name, place in places.items()
        if (part := getattr(parts, name)) is not None and place is not None
    }
    return made | {
        "kept": len(parts.dataset),
        "quarantined": sum(reasons.values()),
        "reasons": dict(sorted(reasons.items())),
        "classes": list(parts.dataset.manifest.content.classes),
    }
