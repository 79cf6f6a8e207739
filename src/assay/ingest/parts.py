"""Divides what was read: the dataset, calibration, hold-out, and what goes to quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay import canonical, versions
from assay.config.ingest import IngestConfig
from assay.data import records
from assay.data.dataset import Dataset
from assay.data.findings import Finding, findings_bytes, tally
from assay.data.manifest import History
from assay.errors import Refused, UnfitInput
from assay.ingest.holdout import held_out, near, overlapping
from assay.ingest.join import classes_of, require_schema, with_keys
from assay.ingest.rows import Rows, raw_bytes
from assay.ingest.take import Taken, rejected_bytes

__all__ = ["Parts", "divide"]

Batches = Sequence[tuple[str, Rows]]


@dataclass(frozen=True)
class Parts:
    """What an ingest makes.

    Fields:
        dataset: records of the sources that are not trusted.
        quarantine: those of them that equal a hold-out record, or that an open incident is about.
        findings: why records left, rows refused by a reader included.
        raw: JSON lines of the rows refused by a reader.
        calibration, holdout: the trusted records; None where they were not asked for.
    """

    dataset: Dataset
    quarantine: Dataset
    findings: tuple[Finding, ...]
    raw: bytes
    calibration: Dataset | None = None
    holdout: Dataset | None = None


def divide(taken: Taken, config: IngestConfig, *, split: bool) -> Parts:
    """Join the batches and divide them.

    Args:
        taken: where the records came from, and the rows of each batch.
        config: of the step.
        split: whether trusted records are wanted.

    Raises:
        UnfitInput: batches of two schemas, labels of no class, one class, or too few trusted records.
        Refused: an open incident is about a trusted record.
    """
    batches, read = taken.batches, taken.read
    require_schema(read)
    classes = classes_of(read, config.classes)
    order = [name for name in read[0][1].table.column_names if name not in ("row", "label")]
    tables = {name: with_keys(name, rows, classes, order) for name, rows in read}
    trusted = {batch.delivery.name for batch in batches if batch.source.trust == "trusted"}
    pool = _pool(tables, trusted)
    history = _history(taken, config)
    named = _named(pool, taken.named)
    findings = _refused(read) + [
        Finding(name, "incident", 1.0, "named_by_incident", "quarantine")
        for name in records.record_ids(pool.filter(pa.array(named)))
    ]
    if not split:
        return _without(pool, named, classes, history, findings, _raw(read))
    reference = _joined([tables[name] for name in sorted(trusted)])
    _require_none(reference, taken.named)
    held = _held(reference, config)
    holdout = reference.filter(pa.array(held))
    same = overlapping(pool, holdout) & ~named
    close = near(pool, holdout, reference, config.near_holdout) & ~(same | named)
    for mask, reason in ((same, "holdout_record"), (close, "near_holdout_record")):
        copies = records.record_ids(pool.filter(pa.array(mask)))
        findings += [Finding(name, "overlap", 1.0, reason, config.overlap) for name in copies]
    leave = named | ((same | close) & (config.overlap == "quarantine"))
    parts = _without(pool, leave, classes, history, findings, _raw(read))
    return replace(
        parts,
        calibration=Dataset.make(reference.filter(pa.array(~held)), classes, replace(history, role="calibration")),
        holdout=Dataset.make(holdout, classes, replace(history, role="holdout")),
    )


def _pool(tables: dict[str, pa.Table], trusted: set[str]) -> pa.Table:
    """What may be trained on; nothing where every source is trusted and a finished model is to be measured."""
    chosen = [table for name, table in tables.items() if name not in trusted]
    pool = _joined(chosen or [next(iter(tables.values())).slice(0, 0)])
    if pool.num_rows and len(np.unique(pool["label"].to_numpy())) < 2:
        raise UnfitInput("label", "one class in the sources to train on", "at least two classes")
    return pool


def _held(reference: pa.Table, config: IngestConfig) -> npt.NDArray[np.bool_]:
    held = held_out(reference, config.holdout_share, config.salt)
    if held.all() or not held.any():
        raise UnfitInput("trusted records", f"{len(held)}, all on one side", "enough for calibration and hold-out")
    return held


def _named(table: pa.Table, named: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Which records incidents are about, (N,)."""
    if not named:
        return np.zeros(table.num_rows, np.bool_)
    return np.array([name in named for name in records.record_ids(table)], np.bool_)


def _require_none(reference: pa.Table, named: frozenset[str]) -> None:
    found = records.record_ids(reference.filter(pa.array(_named(reference, named))))
    if found:
        fix = "What else a trusted source delivered may be no better: leave the batch out."
        raise Refused(f"record {found[0]}", "a trusted record that an open incident is about", "none", fix)


def _refused(read: Batches) -> list[Finding]:
    return [
        Finding(f"{name}:{it.row}", "reader", 0.0, it.reason, "reject") for name, rows in read for it in rows.refused
    ]


def _raw(read: Batches) -> bytes:
    return b"".join(raw_bytes(name, rows.refused) for name, rows in read)


def _without(
    pool: pa.Table,
    leave: npt.NDArray[np.bool_],
    classes: tuple[str, ...],
    history: History,
    findings: list[Finding],
    raw: bytes,
) -> Parts:
    """The dataset without the records that leave, and those as its quarantine."""
    history = replace(history, findings=canonical.sha256(findings_bytes(findings)) if findings else "")
    kept = replace(history, role="kept", removed=tally(findings))
    named = history.parameters | {"raw": canonical.sha256(raw)}
    left = replace(history, role="quarantine", parameters=named)
    return Parts(
        dataset=Dataset.make(pool.filter(pa.array(~leave)), classes, kept),
        quarantine=Dataset.make(pool.filter(pa.array(leave)), classes, left),
        findings=tuple(sorted(findings)),
        raw=raw,
    )


def _history(taken: Taken, config: IngestConfig) -> History:
    rules = {name: rule.model_dump(mode="json", exclude={"prefixes"}) for name, rule in config.sources.items()}
    named = {"rejected": canonical.sha256(rejected_bytes(taken.rejected))} if taken.rejected else {}
    return History(
        step="ingest",
        role="",
        sources=tuple(batch.share for batch in taken.batches),
        parameters=config.to_json() | {"salt": canonical.sha256(config.salt.encode()), "sources": rules} | named,
        code=versions.code_digest(),
        image=versions.image(),
    )


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()
