"""The step ``filter_poison``: does the dataset carry poison, and which records are it?

1. load the dataset and the trusted records, every byte against their manifests;
2. fit the proxies and represent every record twice (`assay.filters.features`);
3. score every record by every detector (`assay.filters.scoring`);
4. decide per class, with a family-wise p-value (`assay.filters.decide`);
5. caps per source and class: exceeded, nothing is written as kept;
6. findings into the ledger, then kept, quarantine and scores, each whole.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay import lineage
from assay.config.base import parse_json
from assay.config.filters import FilterConfig
from assay.data import records
from assay.data.dataset import Dataset, labels
from assay.data.files import write_file
from assay.data.findings import Finding, Split, findings_bytes, split
from assay.errors import AssayError
from assay.filters.decide import Decision
from assay.filters.examine import Examined, examine
from assay.filters.scoring import members

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
        page: file for a report; also written when the caps are exceeded, for the review.
        run: id of the pipeline run.

    Returns:
        The document of ``assay filter``.

    Raises:
        UnfitInput: a dataset that cannot be read, one class, non-finite features, or trusted records of another schema.
        AssayError: a source or class would lose more than the cap: needs review.
    """
    with lineage.step("filter_poison", run) as record:
        built = members(config.detectors)
        given = Dataset.load(dataset)
        record.uses(given, "training")
        trusted = Dataset.load(calibration) if calibration is not None else None
        if trusted is not None:
            record.uses(trusted, "calibration")
        examined = examine(given, config, trusted, built)
        parts = split(given, _findings(given, examined), step="filter_poison", parameters=config.to_json())
        above = _above_cap(given, examined.decision, config.removal_cap)
        if page is not None:
            from assay.filters.page import page_of

            write_file(page, page_of(given, examined, config, above).encode())
        _require_caps(above, config.removal_cap)
        record.finds(parts.findings)
        record.makes(parts.quarantined, "quarantine")
        record.makes(parts.kept, "training")
        parts.quarantined.save(quarantine, {"findings.parquet": findings_bytes(parts.findings)})
        parts.kept.save(kept)
        write_file(scores, _scores_bytes(given, examined))
        return _document(given, parts, examined, kept, quarantine, scores)


def filter_poison_json(dataset: str, config: str, *, run: str = "", **places: str) -> dict[str, Any]:
    """`filter_poison` with everything as text, as a pipeline carries it."""
    paths: dict[str, Any] = {name: Path(place) for name, place in places.items()}
    return filter_poison(Path(dataset), parse_json(FilterConfig, config, "filter"), run=run, **paths)


def _findings(given: Dataset, examined: Examined) -> list[Finding]:
    ids, decision = given.record_ids, examined.decision
    found = []
    for at in np.flatnonzero(decision.removed):
        name = decision.detectors[decision.by[at]]
        score = float(examined.scores[name].records[at])
        found.append(Finding(ids[at], name, score, examined.built[name].reason, "quarantine"))
    return found


def _above_cap(given: Dataset, decision: Decision, cap: float) -> list[str]:
    """Sources and classes that would lose more than the cap, for there the poison may be the majority."""
    classes = given.manifest.content.classes
    groups = {"source": records.sources(given.table), "class": [classes[label] for label in labels(given)]}
    above = []
    for kind, names in groups.items():
        every, gone = Counter(names), Counter(np.array(names, dtype=object)[decision.removed].tolist())
        high = [name for name in sorted(gone) if gone[name] > cap * every[name]]
        above += [f"{kind} {name!r} {gone[name]} of {every[name]}" for name in high]
    return above


def _require_caps(above: list[str], cap: float) -> None:
    if above:
        raise AssayError(
            "needs review",
            f"suspects in {', '.join(above)}",
            f"at most a share of {cap} of each source and class",
            "Where poison may be the majority, the filter cannot tell which part is clean: look at the records, then "
            "leave out the source, or raise removal_cap.",
        )


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
    reasons: Counter[str] = Counter()
    for by_reason in parts.kept.manifest.history.removed.values():
        reasons.update(by_reason)
    return {
        "dataset": _facts(parts.kept, kept),
        "quarantine": _facts(parts.quarantined, quarantine),
        "kept": len(parts.kept),
        "quarantined": len(parts.quarantined),
        "reasons": dict(sorted(reasons.items())),
        "classes": [
            asdict(verdict) | {"label": given.manifest.content.classes[verdict.label]}
            for verdict in examined.decision.classes
        ],
        "silent": examined.silent,
        "scores": str(scores),
    }


def _facts(dataset: Dataset, path: Path) -> dict[str, str]:
    manifest = dataset.manifest
    return {"path": str(path), "digest": manifest.digest, "content_digest": manifest.content_digest}
