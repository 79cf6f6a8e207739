"""The step ``sanitize``: records that are not plausible leave for quarantine, each with its reasons.

1. load the dataset, every byte against its manifest;
2. what is always checked: missing and non-finite values, weights, duplicates, leaks of calibration records;
3. the Great Expectations suite, and the detectors that are configured, on the records that passed;
4. caps per source and class, and the least number of records: exceeded, nothing is written as kept;
5. findings into the ledger, then both parts whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from assay import canonical, lineage
from assay.config.base import parse_json
from assay.config.sanitize import SanitizeConfig
from assay.data.dataset import Dataset
from assay.data.division import division
from assay.data.files import write_file
from assay.data.finding_list import FindingList, Marked
from assay.data.findings import REMOVING
from assay.data.mapped import mapped
from assay.data.stream import DatasetReader
from assay.errors import UnfitInput
from assay.models.encoder import Encoder, load_encoder
from assay.quarantine_seal import seal_quarantine
from assay.sanitize.annotators import findings_of
from assay.sanitize.caps import require_caps
from assay.sanitize.checks import Checks
from assay.sanitize.chunks import in_chunks, validate_chunks
from assay.sanitize.detect import Detection, detect
from assay.sanitize.divide import Parts, divided, sample
from assay.sanitize.docs import NONE, data_docs
from assay.sanitize.expectations import Outcome, add_findings, standard_suite, validate
from assay.sanitize.scalars import RECORD_ID, table_frame

CHUNK_ROWS = 2**17
WHOLE_ROWS = 2**22

__all__ = ["sanitize", "sanitize_json"]


def sanitize(
    dataset: Path,
    config: SanitizeConfig,
    *,
    kept: Path,
    quarantine: Path,
    calibration: Path | None = None,
    page: Path | None = None,
    docs: Path | None = None,
    run: str = "",
) -> dict[str, Any]:
    """Divide a dataset into plausible records and the rest.

    Args:
        dataset: folder of the dataset.
        config: expectations and caps.
        kept: folder for the records that stay.
        quarantine: folder for those that leave, with ``findings.parquet``.
        calibration: folder of trusted records, whose copies in the dataset are flagged; or None.
        page: file for a report; also written when the caps are exceeded, for the review.
        docs: HTML file for Great Expectations' own page about the suite, to which the report links; or None. For a
            table that is validated in chunks it says that there is none.
        run: id of the pipeline run.

    Returns:
        The document of ``assay sanitize``.

    Raises:
        UnfitInput: the dataset cannot be read, an expectation cannot be evaluated or one about the whole table does not
            hold, or too few records or classes are left.
        AssayError: a source or class loses more than the cap: needs review.
    """
    with lineage.step("sanitize", run) as record, ExitStack() as files:
        given = DatasetReader(dataset)
        given.manifest.content.require_classes("sanitize")
        record.uses(given, "training")
        trusted = Dataset.load(calibration) if calibration is not None else None
        if trusted is not None:
            record.uses(trusted, "calibration")
        encoder = _encoder(config)
        if encoder is not None:
            record.reads("model", encoder.digest, "encoder")
        found = _findings(given, config, trusted, encoder, kept, docs)
        annotators = _contradicted(given, config, trusted, found)
        parts = divided(
            given, found.findings, _parameters(config, encoder), {"kept": kept, "quarantine": quarantine}, files
        )
        if page is not None:
            write_file(page, _page(given, parts, found, config, _link(page, docs)).encode())
        require_caps(parts.groups, config.removal_cap)
        _require_enough(parts, config)
        parts.quarantined.require_room()
        parts.kept.require_room()
        data = parts.findings.bytes()
        record.finds_bytes(data if len(parts.findings) else b"")
        (parts.quarantined.folder / "findings.parquet").write_bytes(data)
        seal_quarantine(parts.quarantined.folder, record.workspace)
        record.makes(parts.quarantined, "quarantine")
        record.makes(parts.kept, "training")
        document = _document(found, parts, kept, quarantine)
        return document | {"detectors": [it.to_json() for it in found.detections], "annotators": annotators}


def sanitize_json(dataset: str, config: str, *, run: str = "", **places: str) -> dict[str, Any]:
    """`sanitize` with everything as text, as a pipeline carries it."""
    paths: dict[str, Any] = {name: Path(place) for name, place in places.items()}
    return sanitize(Path(dataset), parse_json(SanitizeConfig, config, "sanitize"), run=run, **paths)


@dataclass(frozen=True)
class _Found:
    """What all checks said: findings, outcomes of the suite, the detectors' answers, features of one value."""

    findings: FindingList
    outcomes: list[Outcome]
    detections: list[Detection]
    constant: list[str]


def _findings(
    given: DatasetReader, config: SanitizeConfig, trusted: Dataset | None, encoder: Encoder | None, beside: Path,
    docs: Path | None,
) -> _Found:  # fmt: skip
    """All findings; suite and detectors see the records that the constant checks leave."""
    checks = Checks(config, trusted)
    for table in given.tables():
        checks.add(table)
    checks.settle(given.tables)
    found = checks.findings
    leaving = found.marked(*REMOVING)
    passed = len(given) - len(leaving)
    if passed < config.least_records:
        raise UnfitInput(
            "sanitize", f"{passed} of {len(given)} records with sound values", f"at least {config.least_records}"
        )
    suite = [*standard_suite(len(given.manifest.content.classes), config.least_records), *config.suite]
    outcomes = _outcomes(given, leaving, passed, suite, docs)
    add_findings(found, outcomes)
    detections: list[Detection] = []
    if config.detectors:
        passing = (table.filter(pa.array(~leaving.of(table))) for table in given.tables())
        with mapped(passing, given.manifest, beside) as whole:
            detections = detect(whole, np.ones(len(whole), np.bool_), trusted, config, encoder)
        for detection in detections:
            found.extend(detection.findings)
    return _Found(found, outcomes, detections, checks.constant)


def _contradicted(
    given: DatasetReader, config: SanitizeConfig, trusted: Dataset | None, found: _Found
) -> list[dict[str, Any]]:
    """What is known of each annotator; the labels that their consensus contradicts join the findings."""
    if not config.annotators.file:
        return []
    contradicted, annotators = findings_of(Dataset.load(given.folder), trusted, config.annotators)
    found.findings.extend(contradicted)
    return annotators


def _outcomes(
    given: DatasetReader, leaving: Marked, passed: int, suite: list[dict[str, Any]], docs: Path | None
) -> list[Outcome]:
    """Of the suite; in chunks where one frame of all records would be large and the suite lets it be cut up."""

    def frames() -> Iterator[pd.DataFrame]:
        for table in given.tables():
            left = table.filter(pa.array(~leaving.of(table)))
            for first in range(0, left.num_rows, CHUNK_ROWS):
                yield table_frame(left.slice(first, CHUNK_ROWS))

    if passed > CHUNK_ROWS and in_chunks(suite):
        if docs is not None:
            write_file(docs, NONE)
        return validate_chunks(frames, suite, distinct={RECORD_ID})  # the reader has seen each id once
    if passed > WHOLE_ROWS:
        whole = next(str(it["type"]) for it in suite if not in_chunks([it]))
        raise UnfitInput(
            f"expectation {whole}",
            f"one about the distribution of a whole column, on {passed} records",
            f"at most {WHOLE_ROWS} records for such a one, which cannot be evaluated in chunks",
        )
    show = None if docs is None else (lambda result: write_file(docs, data_docs(result)))
    return validate(pd.concat(list(frames()), ignore_index=True), suite, show=show)


def _link(page: Path, docs: Path | None) -> str:
    """From the report to the data docs; empty where there are none."""
    if docs is None:
        return ""
    return Path(os.path.relpath(docs.absolute(), page.absolute().parent)).as_posix()


def _encoder(config: SanitizeConfig) -> Encoder | None:
    """The encoder, where one is configured: only then is torch loaded."""
    return load_encoder(config.encoder, "sanitize.encoder") if config.encoder.model else None


def _parameters(config: SanitizeConfig, encoder: Encoder | None) -> dict[str, Any]:
    """The settings, annotations and encoder by their digests, wherever they lay."""
    document = config.to_json()
    if encoder is not None:
        document["encoder"]["model"] = encoder.digest
    if config.annotators.file:
        document["annotators"]["file"] = canonical.file_digest(config.annotators.file)
    return document


def _require_enough(parts: Parts, config: SanitizeConfig) -> None:
    if len(parts.kept) < config.least_records:
        raise UnfitInput("sanitize", f"{len(parts.kept)} records kept", f"at least {config.least_records}")
    if sum(group.kind == "class" and group.removed < group.records for group in parts.groups) < 2:
        raise UnfitInput("sanitize", "one class among the records kept", "at least two")


def _document(found: _Found, parts: Parts, kept: Path, quarantine: Path) -> dict[str, Any]:
    return division(parts.kept.manifest, kept, parts.quarantined.manifest, quarantine) | {
        "flagged": dict(sorted(parts.findings.counts("flag").items())),
        "constant": found.constant,
        "removed": [vars(group) for group in parts.groups if group.removed],
        "expectations": [
            {"type": it.type, "kwargs": it.kwargs, "evaluated": it.evaluated, "failing": len(it.failing)}
            for it in found.outcomes
        ],
    }


def _page(given: DatasetReader, parts: Parts, found: _Found, config: SanitizeConfig, docs: str) -> str:
    from assay.sanitize.page import page_of

    whole, split = sample(given, parts)
    return page_of(whole, split, found.outcomes, parts.groups, config, found.detections, docs)
