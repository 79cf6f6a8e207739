"""Divides what was read: the dataset, calibration, hold-out, and what goes to quarantine.

Trusted records first, for the hold-out says which of the others leave; each part is written as its records come, so
that none of them is ever in memory whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay import canonical, versions
from assay.config.ingest import IngestConfig
from assay.data import records
from assay.data.content import ContentIndex
from assay.data.finding_list import FindingList
from assay.data.manifest import History
from assay.data.matrix import numeric_names
from assay.data.stream import DatasetWriter, writing
from assay.errors import Refused, UnfitInput
from assay.ingest.holdout import Nearness, features_of, held_out
from assay.ingest.join import classes_of, positions_of, with_keys
from assay.ingest.spool import Spool
from assay.ingest.take import Taken, rejected_bytes

RAW = "raw.jsonl"
PIECE_BYTES = 2**20

__all__ = ["RAW", "Parts", "divide"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Parts:
    """What an ingest makes, written but without a name yet.

    Fields:
        dataset: records of the sources that are not trusted.
        quarantine: those of them that equal a hold-out record, or that an open incident is about; the rows refused by
            a reader lie beside them.
        findings: why records left, rows refused by a reader included.
        calibration, holdout: the trusted records; None where they were not asked for.
    """

    dataset: DatasetWriter
    quarantine: DatasetWriter
    findings: FindingList
    calibration: DatasetWriter | None = None
    holdout: DatasetWriter | None = None


def divide(taken: Taken, config: IngestConfig, places: Mapping[str, Path | None], files: ExitStack) -> Parts:
    """Join the batches and divide them.

    Args:
        taken: where the records came from, and the rows of each batch.
        config: of the step.
        places: folder of every part; of ``calibration`` and ``holdout`` None where no trusted records are wanted.
        files: gives the parts their names when it ends well, and lets none of them appear when it does not.

    Raises:
        UnfitInput: labels of no class, one class, or too few trusted records.
        Refused: an open incident is about a trusted record.
    """
    division = _Division(taken, config, places, files)
    if "holdout" in division.parts:
        division.trusted()
    division.others()
    return division.finished()


class _Division:
    def __init__(self, taken: Taken, config: IngestConfig, places: Mapping[str, Path | None], files: ExitStack) -> None:
        self.taken, self.config = taken, config
        quantity = config.task == "regression"
        self.classes = () if quantity else classes_of(taken.read, config.classes)
        self.order = list(taken.read[0].features)
        trusted = {batch.delivery.name for batch in taken.batches if batch.source.trust == "trusted"}
        ordered = sorted(taken.read, key=lambda rows: rows.name.encode())
        self.reference = [rows for rows in ordered if rows.name in trusted]
        self.pool = [rows for rows in ordered if rows.name not in trusted]
        if self.pool and not quantity and len(positions_of(self.pool, self.classes)) < 2:
            raise UnfitInput("label", "one class in the sources to train on", "at least two classes")
        self.findings = FindingList()
        self.index: ContentIndex | None = None
        self.nearness: Nearness | None = None
        self.parts = {
            name: files.enter_context(writing(place, self.classes))
            for name, place in places.items()
            if place is not None
        }
        nothing = self._keyed(taken.read[0]).__next__().slice(0, 0)  # so that every part knows its columns
        for part in self.parts.values():
            part.add(nothing)

    def trusted(self) -> None:
        """Write calibration and hold-out, and index the hold-out."""
        kept: list[pa.Table] = []
        masks: list[Mask] = [np.zeros(0, np.bool_)]

        def held() -> Iterator[pa.Table]:
            for table in self._tables(self.reference):
                self._require_unnamed(table)
                mask = held_out(table, self.config.holdout_share, self.config.salt)
                masks.append(mask)
                kept.extend([table] if self.config.near_holdout else [])
                side = table.filter(pa.array(mask))
                self.parts["holdout"].add(side)
                self.parts["calibration"].add(table.filter(pa.array(~mask)))
                yield features_of(side)

        self.index = ContentIndex.gathered(held())
        mask = np.concatenate(masks)
        if mask.all() or not mask.any():
            raise UnfitInput("trusted records", f"{len(mask)}, all on one side", "enough for calibration and hold-out")
        if kept and numeric_names(kept[0]):  # a search by distance needs them all at once
            self.nearness = Nearness(pa.concat_tables(kept).combine_chunks(), mask, self.config.near_holdout)

    def others(self) -> None:
        """Write the dataset and its quarantine."""
        for table in self._tables(self.pool):
            named = _named(table, self.taken.named)
            same = self.index.holds(features_of(table)) & ~named if self.index is not None else np.zeros_like(named)
            near = self.nearness.of(table) & ~(same | named) if self.nearness is not None else np.zeros_like(named)
            self._finds(table, named, "incident", "named_by_incident")
            self._finds(table, same, "overlap", "holdout_record")
            self._finds(table, near, "overlap", "near_holdout_record")
            leave = named | ((same | near) & (self.config.overlap == "quarantine"))
            self.parts["quarantine"].add(table.filter(pa.array(leave)))
            self.parts["dataset"].add(table.filter(pa.array(~leave)) if leave.any() else table)

    def finished(self) -> Parts:
        """All parts with their manifests."""
        for rows in self.taken.read:
            for reason, places in rows.reasons():
                self.findings.add([f"{rows.name}:{row}" for row in places], "reader", 0.0, reason, "reject")
        history = _history(self.taken, self.config)
        raw = _write_raw(self.parts["quarantine"].folder / RAW, self.taken.read)
        for name in ("calibration", "holdout"):
            if name in self.parts:
                self.parts[name].finish(replace(history, role=name))
        history = replace(history, findings=self.findings.digest())
        self.parts["dataset"].finish(replace(history, role="kept", removed=self.findings.tally()))
        left = replace(history, role="quarantine", parameters=history.parameters | {"raw": raw})
        self.parts["quarantine"].finish(left)
        return Parts(**self.parts, findings=self.findings)

    def _keyed(self, rows: Spool) -> Iterator[pa.Table]:
        return (with_keys(rows.name, table, self.classes, self.order) for table in rows.tables())

    def _tables(self, batches: Sequence[Spool]) -> Iterator[pa.Table]:
        for rows in batches:
            yield from self._keyed(rows)

    def _finds(self, table: pa.Table, mask: Mask, detector: str, reason: str) -> None:
        if mask.any():
            action = "quarantine" if detector == "incident" else self.config.overlap
            self.findings.add(records.record_ids(table.filter(pa.array(mask))), detector, 1.0, reason, action)

    def _require_unnamed(self, table: pa.Table) -> None:
        found = records.record_ids(table.filter(pa.array(_named(table, self.taken.named))))
        if found:
            fix = "What else a trusted source delivered may be no better: leave the batch out."
            raise Refused(f"record {found[0]}", "a trusted record that an open incident is about", "none", fix)


def _named(table: pa.Table, named: frozenset[str]) -> Mask:
    """Which records incidents are about, (N,)."""
    if not named:
        return np.zeros(table.num_rows, np.bool_)
    return np.array([name in named for name in records.record_ids(table)], np.bool_)


def _write_raw(path: Path, read: Sequence[Spool]) -> str:
    """One file of the refused rows of all batches; returns its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as target:
        for rows in read:
            with rows.raw.open("rb") as source:
                while piece := source.read(PIECE_BYTES):
                    digest.update(piece)
                    target.write(piece)
    return digest.hexdigest()


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
