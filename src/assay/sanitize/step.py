"""The step ``sanitize``: records that are not plausible leave for quarantine, each with its reasons.

1. load the dataset, every byte against its manifest;
2. what is always checked: missing and non-finite values, weights, duplicates, leaks of calibration records;
3. the Great Expectations suite, and the detectors that are configured, on the records that passed;
4. caps per source and class, and the least number of records: exceeded, nothing is written as kept;
5. findings into the ledger, then both parts whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from assay import canonical, lineage
from assay.config.base import parse_json
from assay.config.sanitize import SanitizeConfig
from assay.data import records
from assay.data.dataset import Dataset, labels
from assay.data.files import write_file
from assay.data.findings import REMOVING, Finding, Split, findings_bytes, split
from assay.errors import UnfitInput
from assay.quarantine_seal import seal_quarantine
from assay.sanitize.annotators import findings_of
from assay.sanitize.caps import Removal, removals, require_caps
from assay.sanitize.checks import always, constant_columns
from assay.sanitize.chunks import in_chunks, validate_chunks
from assay.sanitize.detect import Detection, detect
from assay.sanitize.encoder import Encoder, load_encoder
from assay.sanitize.expectations import Outcome, standard_suite, validate
from assay.sanitize.expectations import findings_of as outcomes_findings
from assay.sanitize.scalars import frame

CHUNK_ROWS = 2**20

__all__ = ["sanitize", "sanitize_json"]


def sanitize(
    dataset: Path,
    config: SanitizeConfig,
    *,
    kept: Path,
    quarantine: Path,
    calibration: Path | None = None,
    page: Path | None = None,
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
        run: id of the pipeline run.

    Returns:
        The document of ``assay sanitize``.

    Raises:
        UnfitInput: the dataset cannot be read, an expectation cannot be evaluated or one about the whole table does not
            hold, or too few records or classes are left.
        AssayError: a source or class loses more than the cap: needs review.
    """
    with lineage.step("sanitize", run) as record:
        given = Dataset.load(dataset)
        record.uses(given, "training")
        trusted = Dataset.load(calibration) if calibration is not None else None
        if trusted is not None:
            record.uses(trusted, "calibration")
        encoder = _encoder(config)
        if encoder is not None:
            record.reads("model", encoder.digest, "encoder")
        findings, outcomes, detections = _findings(given, config, trusted, encoder)
        contradicted, annotators = (
            findings_of(given, trusted, config.annotators) if config.annotators.file else ([], [])
        )
        findings += contradicted
        parts = split(given, findings, step="sanitize", parameters=_parameters(config, encoder))
        groups = removals(given, _leaving(given, parts.findings))
        if page is not None:
            from assay.sanitize.page import page_of

            write_file(page, page_of(given, parts, outcomes, groups, config, detections).encode())
        require_caps(groups, config.removal_cap)
        _require_enough(parts.kept, config)
        parts.quarantined.require_room(quarantine)
        parts.kept.require_room(kept)
        record.finds(parts.findings)
        record.makes(parts.quarantined, "quarantine")
        record.makes(parts.kept, "training")
        extra = {"findings.parquet": findings_bytes(parts.findings)}
        parts.quarantined.save(quarantine, extra, lambda folder: seal_quarantine(folder, record.workspace))
        parts.kept.save(kept)
        document = _document(given, parts, outcomes, groups, kept, quarantine)
        return document | {"detectors": [it.to_json() for it in detections], "annotators": annotators}


def sanitize_json(dataset: str, config: str, *, run: str = "", **places: str) -> dict[str, Any]:
    """`sanitize` with everything as text, as a pipeline carries it."""
    paths: dict[str, Any] = {name: Path(place) for name, place in places.items()}
    return sanitize(Path(dataset), parse_json(SanitizeConfig, config, "sanitize"), run=run, **paths)


def _findings(
    dataset: Dataset, config: SanitizeConfig, trusted: Dataset | None, encoder: Encoder | None
) -> tuple[list[Finding], list[Outcome], list[Detection]]:
    """All findings; suite and detectors see the records that the constant checks leave."""
    found = always(dataset, config, trusted)
    passed = ~_leaving(dataset, found)
    if passed.sum() < config.least_records:
        raise UnfitInput(
            "sanitize",
            f"{passed.sum()} of {len(dataset)} records with sound values",
            f"at least {config.least_records}",
        )
    suite = [*standard_suite(len(dataset.manifest.content.classes), config.least_records), *config.suite]
    outcomes = _outcomes(dataset, passed, suite)
    detections = detect(dataset, passed, trusted, config, encoder)
    suspicious = [finding for detection in detections for finding in detection.findings]
    return found + outcomes_findings(outcomes) + suspicious, outcomes, detections


def _outcomes(dataset: Dataset, passed: npt.NDArray[np.bool_], suite: list[dict[str, Any]]) -> list[Outcome]:
    """Of the suite; in chunks where one frame of all records would be large and the suite lets it be cut up."""
    if passed.sum() <= CHUNK_ROWS or not in_chunks(suite):
        return validate(frame(dataset, passed), suite)
    places = np.array_split(np.flatnonzero(passed), -(-int(passed.sum()) // CHUNK_ROWS))

    def frames() -> Iterator[pd.DataFrame]:
        for rows in places:
            part = np.zeros(len(dataset), np.bool_)
            part[rows] = True
            yield frame(dataset, part)

    return validate_chunks(frames, suite)


def _encoder(config: SanitizeConfig) -> Encoder | None:
    """The encoder, where one is configured: only then is torch loaded."""
    return load_encoder(config.encoder) if config.encoder.model else None


def _parameters(config: SanitizeConfig, encoder: Encoder | None) -> dict[str, Any]:
    """The settings, annotations and encoder by their digests, wherever they lay."""
    document = config.to_json()
    if encoder is not None:
        document["encoder"]["model"] = encoder.digest
    if config.annotators.file:
        document["annotators"]["file"] = canonical.file_digest(config.annotators.file)
    return document


def _leaving(dataset: Dataset, findings: list[Finding] | tuple[Finding, ...]) -> npt.NDArray[np.bool_]:
    """Which records leave, (N,)."""
    leave = np.zeros(len(dataset), np.bool_)
    removed = sorted({finding.record_id for finding in findings if finding.action in REMOVING})
    if removed:
        leave[records.rows_of(dataset.table, removed)] = True
    return leave


def _require_enough(kept: Dataset, config: SanitizeConfig) -> None:
    if len(kept) < config.least_records:
        raise UnfitInput("sanitize", f"{len(kept)} records kept", f"at least {config.least_records}")
    if len(np.unique(labels(kept))) < 2:
        raise UnfitInput("sanitize", "one class among the records kept", "at least two")


def _document(
    given: Dataset, parts: Split, outcomes: list[Outcome], groups: list[Removal], kept: Path, quarantine: Path
) -> dict[str, Any]:
    reasons: Counter[str] = Counter()
    for by_reason in parts.kept.manifest.history.removed.values():
        reasons.update(by_reason)
    flags = Counter(finding.reason for finding in parts.findings if finding.action == "flag")
    return {
        "dataset": _facts(parts.kept, kept),
        "quarantine": _facts(parts.quarantined, quarantine),
        "kept": len(parts.kept),
        "quarantined": len(parts.quarantined),
        "reasons": dict(sorted(reasons.items())),
        "flagged": dict(sorted(flags.items())),
        "constant": constant_columns(given),
        "removed": [vars(group) for group in groups if group.removed],
        "expectations": [
            {"type": it.type, "kwargs": it.kwargs, "evaluated": it.evaluated, "failing": len(it.failing)}
            for it in outcomes
        ],
    }


def _facts(dataset: Dataset, path: Path) -> dict[str, str]:
    manifest = dataset.manifest
    return {"path": str(path), "digest": manifest.digest, "content_digest": manifest.content_digest}
