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
from assay.data.parquet import table_in
from assay.errors import UnfitInput

Action = Literal["keep", "flag", "downweight", "quarantine", "reject"]
DOWNWEIGHT = 0.125  # a power of two, so that a release can give the weight back to the bit
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

__all__ = ["REMOVING", "Action", "Finding", "Split", "findings_bytes", "read_findings", "restored", "split", "tally"]


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
    table, weights = _reweighted(dataset, listed)
    history = History(
        step=step,
        role="quarantine",
        sources=dataset.manifest.history.sources,
        parents=(dataset.manifest.digest,),
        parameters=dict(parameters) | weights,
        code=versions.code_digest(),
        image=versions.image(),
        findings=canonical.sha256(findings_bytes(listed)) if listed else "",
    )
    return Split(
        kept=table.take(~leave, replace(history, role="kept", removed=tally(listed))),
        quarantined=table.take(leave, history),
        findings=listed,
    )


def restored(dataset: Dataset, findings: Iterable[Finding], history: History) -> Dataset:
    """A dataset with the weights it had before `split` lowered some, under a new history.

    Args:
        dataset: everything that the split kept or removed, joined.
        findings: of the split.
        history: of the result; its ``parameters`` say nothing of weights.
    """
    down = sorted({finding.record_id for finding in findings if finding.action == "downweight"})
    if not down or "weight" not in dataset.table.column_names:
        return dataset
    weight = dataset.table["weight"].to_numpy().copy()
    weight[records.rows_of(dataset.table, down)] /= DOWNWEIGHT
    place = dataset.table.column_names.index("weight")
    return Dataset.make(
        dataset.table.set_column(place, "weight", pa.array(weight)), dataset.manifest.content.classes, history
    )


def _reweighted(dataset: Dataset, findings: Iterable[Finding]) -> tuple[Dataset, dict[str, str]]:
    """The dataset with lowered weights, and what to say of them: whether the column was added or changed."""
    down = sorted({finding.record_id for finding in findings if finding.action == "downweight"})
    if not down:
        return dataset, {}
    table, given = dataset.table, "weight" in dataset.table.column_names
    weight = table["weight"].cast(pa.float64()).to_numpy().copy() if given else np.ones(len(dataset))
    weight[records.rows_of(table, down)] *= DOWNWEIGHT
    column = pa.array(weight)
    place = table.column_names.index("weight") if given else -1
    table = table.set_column(place, "weight", column) if given else table.append_column("weight", column)
    made = Dataset.make(table, dataset.manifest.content.classes, dataset.manifest.history)
    return made, {"weight": "changed" if given else "added"}


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
        table = table_in(data).select(SCHEMA.names).cast(SCHEMA)
        return [Finding(**row) for row in table.to_pylist()]
    except (pa.ArrowException, TypeError, ValueError, KeyError, OSError) as error:
        raise UnfitInput(where, str(error), "a Parquet file of findings") from error
