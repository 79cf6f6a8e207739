"""The step ``filter_poison``: does the dataset carry poison, and which records are it?

1. load the dataset and the trusted records, every byte against their manifests;
2. fit the proxies and represent every record twice (`assay.filters.features`);
3. score every record by every detector (`assay.filters.scoring`);
4. decide per class, with a family-wise p-value (`assay.filters.decide`);
5. where the removal is too large or too whole (`assay.filters._review`), stop for a person to look;
6. if asked for, plant known backdoors in copies and say how many are found (`assay.filters.self_test`);
7. findings into the ledger, then kept, quarantine and scores, each whole.
"""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay import lineage
from assay.config.base import parse_json
from assay.config.filters import FilterConfig
from assay.data.dataset import Dataset
from assay.data.division import division
from assay.data.files import write_file
from assay.data.findings import Finding, Split, findings_bytes, split
from assay.filters._review import doubts, require_none
from assay.filters.examine import Examined, examine
from assay.filters.scoring import members
from assay.filters.self_test import Power, self_test
from assay.models.encoder import load_encoder
from assay.quarantine_seal import seal_quarantine

__all__ = ["filter_poison", "filter_poison_json"]


def filter_poison(
    dataset: Path,
    config: FilterConfig,
    *,
    kept: Path,
    quarantine: Path,
    scores: Path,
    calibration: Path | None = None,
    page: Path | None = None,
    run: str = "",
) -> dict[str, Any]:
    """Divide a dataset into records without sign of poison and the rest.

    Args:
        dataset: folder of the dataset.
        config: detectors and rates.
        kept: folder for the records that stay.
        quarantine: folder for those that leave, with ``findings.parquet``.
        scores: Parquet file: record_id, one column a detector, decision.
        calibration: folder of trusted records, or None.
        page: file for a report; also written when the step stops for review.
        run: id of the pipeline run.

    Returns:
        The document of ``assay filter``.

    Raises:
        UnfitInput: a dataset that cannot be read, one class, non-finite features, trusted records of another schema, or
            an encoder of other inputs.
        AssayError: a source or class would lose more than the cap, or all of one kind: needs review.
    """
    with lineage.step("filter_poison", run) as record:
        built = members(config.detectors)
        given = Dataset.load(dataset)
        given.manifest.content.require_classes("filter")
        record.uses(given, "training")
        trusted = Dataset.load(calibration) if calibration is not None else None
        if trusted is not None:
            record.uses(trusted, "calibration")
        encode = load_encoder(config.encoder, "filter.encoder") if config.encoder.model else None
        if encode is not None:
            record.reads("model", encode.digest, "encoder")
        examined = examine(given, config, trusted, built, encode)
        found = doubts(given, examined, config.removal_cap)
        power = self_test(given, examined, config, trusted) if not found else None
        if page is not None:
            from assay.filters.page import page_of

            write_file(page, page_of(given, examined, config, found, power).encode())
        require_none(found, config.removal_cap)
        parameters = _parameters(config, power, encode.digest if encode is not None else "")
        parts = split(given, _findings(given, examined), step="filter_poison", parameters=parameters)
        record.finds(parts.findings)
        record.makes(parts.quarantined, "quarantine")
        record.makes(parts.kept, "training")
        extra = {"findings.parquet": findings_bytes(parts.findings)}
        parts.quarantined.save(quarantine, extra, lambda folder: seal_quarantine(folder, record.workspace))
        parts.kept.save(kept)
        write_file(scores, _scores_bytes(given, examined))
        if power is not None:
            record.metrics |= {name: estimate.value for name, estimate in power.estimates().items()}
        return _document(given, parts, examined, kept, quarantine, scores) | {
            "power": power.to_json() if power is not None else None
        }


def filter_poison_json(dataset: str, config: str, *, run: str = "", **places: str) -> dict[str, Any]:
    """`filter_poison` with everything as text, as a pipeline carries it."""
    paths: dict[str, Any] = {name: Path(place) for name, place in places.items()}
    return filter_poison(Path(dataset), parse_json(FilterConfig, config, "filter"), run=run, **paths)


def _parameters(config: FilterConfig, power: Power | None, encoder: str) -> dict[str, Any]:
    """What the history of both parts says: the settings, the encoder's digest, and what the self-test found."""
    document = config.to_json()
    document["encoder"]["model"] = encoder
    if power is not None:
        document["power"] = {name: estimate.to_json() for name, estimate in power.estimates().items()}
    return document


def _findings(given: Dataset, examined: Examined) -> list[Finding]:
    ids, decision = given.record_ids, examined.decision
    found = []
    for at in np.flatnonzero(decision.removed):
        name = decision.detectors[decision.by[at]]
        score = float(examined.scores[name].records[at])
        found.append(Finding(ids[at], name, score, examined.built[name].reason, "quarantine"))
    return found


def _scores_bytes(given: Dataset, examined: Examined) -> bytes:
    """Parquet bytes: record_id, one float64 column a detector, decision."""
    decision = np.where(examined.decision.removed, "quarantine", "keep")
    columns = {"record_id": pa.array(given.record_ids, pa.string())}
    columns |= {name: pa.array(scores.records) for name, scores in examined.scores.items()}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns | {"decision": pa.array(decision.tolist(), pa.string())}), sink, compression="zstd")
    return sink.getvalue()


def _document(
    given: Dataset, parts: Split, examined: Examined, kept: Path, quarantine: Path, scores: Path
) -> dict[str, Any]:
    return division(parts.kept.manifest, kept, parts.quarantined.manifest, quarantine) | {
        "classes": [
            asdict(verdict) | {"label": given.manifest.content.classes[verdict.label]}
            for verdict in examined.decision.classes
        ],
        "silent": examined.silent,
        "scores": str(scores),
    }
