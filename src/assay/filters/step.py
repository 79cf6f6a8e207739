"""The step ``filter_poison``: does the dataset carry poison, and which records are it?

1. read the dataset, every byte against its manifest: features into a file, keys and labels into memory; load the
   trusted records;
2. fit the proxies and represent every record twice (`assay.filters.features`);
3. score every record by every detector (`assay.filters.scoring`);
4. decide per class, with a family-wise p-value (`assay.filters.decide`);
5. where the removal is too large or too whole (`assay.filters._review`), stop for a person to look;
6. if asked for, plant known backdoors in copies and say how many are found (`assay.filters.self_test`);
7. read the dataset once more and divide it; findings into the ledger, then quarantine, kept and scores, each whole.

In memory are the activations and log-probabilities of every record, its scores, key and label, and, of one flagged
class at a time, all that is known of its records.
"""

from __future__ import annotations

import io
from contextlib import ExitStack
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
from assay.data.divide import divide
from assay.data.division import division
from assay.data.files import temporary_folder, write_file
from assay.data.finding_list import FindingList
from assay.data.held import held
from assay.data.records import id_column
from assay.data.stream import DatasetReader, DatasetWriter
from assay.filters._review import doubts, require_none
from assay.filters.examine import Examined, examine
from assay.filters.scoring import members
from assay.filters.self_test import Power, self_test
from assay.models.encoder import load_encoder
from assay.quarantine_seal import seal_quarantine

GROUP_ROWS = 2**20  # of the scores: the row group of a file written at once
Parts = tuple[DatasetWriter, DatasetWriter]

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
    scratch = temporary_folder(kept.with_name(f"{kept.name}-held"))
    with lineage.step("filter_poison", run) as record, scratch as folder:
        built = members(config.detectors)
        reader = DatasetReader(dataset)
        reader.manifest.content.require_classes("filter")
        given, x = held(reader, folder)
        record.uses(given, "training")
        trusted = Dataset.load(calibration) if calibration is not None else None
        if trusted is not None:
            record.uses(trusted, "calibration")
        encode = load_encoder(config.encoder, "filter.encoder") if config.encoder.model else None
        if encode is not None:
            record.reads("model", encode.digest, "encoder")
        examined = examine(given, x, config, trusted, built, encode)
        found = doubts(given, examined, config.removal_cap)
        power = self_test(given, examined, config, trusted) if not found else None
        if page is not None:
            from assay.filters.page import page_of

            write_file(page, page_of(given, examined, config, found, power).encode())
        require_none(found, config.removal_cap)
        parameters = _parameters(config, power, encode.digest if encode is not None else "")
        findings, places = _findings(given, examined), {"kept": kept, "quarantine": quarantine}
        with ExitStack() as files:
            parts = divide(reader, findings, step="filter_poison", parameters=parameters, places=places, files=files)
            _record(parts, findings, record)
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
    from assay.devices import device_name, device_of

    document = config.to_json()
    document["encoder"]["model"] = encoder
    document["device"] = device_name(device_of(config.device, "filter.device"))
    if power is not None:
        document["power"] = {name: estimate.to_json() for name, estimate in power.estimates().items()}
    return document


def _findings(given: Dataset, examined: Examined) -> FindingList:
    found, decision = FindingList(), examined.decision
    for number, name in enumerate(decision.detectors):
        rows = np.flatnonzero(decision.removed & (decision.by == number))
        ids = id_column(given.table.take(pa.array(rows)))
        found.add(ids, name, examined.scores[name].records[rows], examined.built[name].reason, "quarantine")
    return found


def _record(parts: Parts, findings: FindingList, record: lineage.StepRecord) -> None:
    """Into the ledger and beside the records that leave: why they do; refused before where a folder is taken."""
    kept, left = parts
    left.require_room()
    kept.require_room()
    data = findings.bytes()
    record.finds_bytes(data if len(findings) else b"")
    (left.folder / "findings.parquet").write_bytes(data)
    seal_quarantine(left.folder, record.workspace)
    record.makes(left, "quarantine")
    record.makes(kept, "training")


def _scores_bytes(given: Dataset, examined: Examined) -> bytes:
    """Parquet bytes: record_id, one float64 column a detector, decision."""
    names = [("record_id", pa.string()), *((name, pa.float64()) for name in examined.scores), ("decision", pa.string())]
    words, sink = pa.array(["keep", "quarantine"]), io.BytesIO()
    with pq.ParquetWriter(sink, pa.schema(names), compression="zstd") as writer:
        for first in range(0, len(given), GROUP_ROWS):
            rows = slice(first, first + GROUP_ROWS)
            columns = [id_column(given.table.slice(first, GROUP_ROWS))]
            columns += [pa.array(scores.records[rows]) for scores in examined.scores.values()]
            columns += [words.take(pa.array(examined.decision.removed[rows].astype(np.int8)))]
            writer.write_table(pa.table(columns, schema=pa.schema(names)), row_group_size=GROUP_ROWS)
    return sink.getvalue()


def _document(
    given: Dataset, parts: Parts, examined: Examined, kept: Path, quarantine: Path, scores: Path
) -> dict[str, Any]:
    return division(parts[0].manifest, kept, parts[1].manifest, quarantine) | {
        "classes": [
            asdict(verdict) | {"label": given.manifest.content.classes[verdict.label]}
            for verdict in examined.decision.classes
        ],
        "silent": examined.silent,
        "scores": str(scores),
    }
