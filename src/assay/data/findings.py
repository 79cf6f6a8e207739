"""Findings about records, and the split of a dataset by them: kept + quarantined = input, as record ids."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay import canonical, versions
from assay.data import records
from assay.data.dataset import Dataset
from assay.data.manifest import History
from assay.errors import UnfitInput

Action = Literal["keep", "flag", "downweight", "quarantine", "reject"]
REMOVING: tuple[Action, ...] = ("quarantine", "reject")
SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("detector", pa.string()),
        ("score", pa.float64()),
        ("reason", pa.string()),
        ("action", pa.string()),
    ]
)

__all__ = ["REMOVING", "Action", "Finding", "Split", "findings_bytes", "read_findings", "split", "tally"]


@dataclass(frozen=True, order=True)
class Finding:
    """What one detector says of one record.

    Fields:
        record_id: text form.
        detector: name of the detector or expectation.
        score: its suspicion; higher is worse; 0 where a check is yes or no.
        reason: code such as ``not_finite`` or ``separated_cluster``.
        action: what follows.
    """

    record_id: str
    detector: str
    score: float
    reason: str
    action: Action


@dataclass(frozen=True)
class Split:
    """Both parts of a dataset and the findings that divide them."""

    kept: Dataset
    quarantined: Dataset
    findings: tuple[Finding, ...]


def split(dataset: Dataset, findings: Iterable[Finding], *, step: str, parameters: Mapping[str, Any]) -> Split:
    """Divide a dataset by findings: a record with any removing finding goes to quarantine.

    Args:
        dataset: the input; becomes the parent of both parts.
        findings: about records of this dataset.
        step: the step that speaks.
        parameters: its settings, for the history.

    Raises:
        UnfitInput: a finding about a record that the dataset does not hold.
    """
    listed = tuple(sorted(set(findings)))
    removed = {finding.record_id for finding in listed if finding.action in REMOVING}
    leave = np.zeros(len(dataset), dtype=np.bool_)
    leave[records.rows_of(dataset.table, sorted(removed))] = True
    history = History(
        step=step,
        role="quarantine",
        sources=dataset.manifest.history.sources,
        parents=(dataset.manifest.digest,),
        parameters=dict(parameters),
        code=versions.code_digest(),
        image=versions.image(),
        findings=canonical.sha256(findings_bytes(listed)) if listed else "",
    )
    return Split(
        kept=dataset.take(~leave, replace(history, role="kept", removed=tally(listed))),
        quarantined=dataset.take(leave, history),
        findings=listed,
    )


def tally(findings: Iterable[Finding]) -> dict[str, dict[str, int]]:
    """How many records were removed, by source and reason; a record counts once, under its worst finding."""
    worst: dict[str, Finding] = {}
    for finding in sorted(findings):
        if finding.action in REMOVING and (
            finding.record_id not in worst or finding.score > worst[finding.record_id].score
        ):
            worst[finding.record_id] = finding
    counts = Counter((records.RecordId.parse(record).source, finding.reason) for record, finding in worst.items())
    result: dict[str, dict[str, int]] = {}
    for (source, reason), count in sorted(counts.items()):
        result.setdefault(source, {})[reason] = count
    return result


def findings_bytes(findings: Iterable[Finding]) -> bytes:
    """Parquet bytes of findings, sorted; equal findings give equal bytes."""
    sink = io.BytesIO()
    rows = [asdict(finding) for finding in sorted(findings)]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink, compression="zstd")
    return sink.getvalue()


def read_findings(data: bytes, where: str = "findings") -> list[Finding]:
    """The reverse of `findings_bytes`."""
    try:
        table = pq.read_table(io.BytesIO(data), schema=SCHEMA)
        return [Finding(**row) for row in table.to_pylist()]
    except (pa.ArrowException, TypeError, OSError) as error:
        raise UnfitInput(where, str(error), "a Parquet file of findings") from error
