"""Writes both parts of a dataset as its records pass: those that stay, and those that leave."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.data.dataset import Dataset
from assay.data.divide import divide
from assay.data.finding_list import FindingList, Marked
from assay.data.findings import DOWNWEIGHT, REMOVING, Split
from assay.data.stream import DatasetReader, DatasetWriter
from assay.sanitize.caps import Groups, Removal

SAMPLE_ROWS = 2**20

__all__ = ["SAMPLE_ROWS", "Parts", "divided", "sample"]


@dataclass(frozen=True)
class Parts:
    """Both parts, written but without a name yet.

    Fields:
        kept, quarantined: the parts; findings: what divides them.
        groups: removals by source and class.
    """

    kept: DatasetWriter
    quarantined: DatasetWriter
    findings: FindingList
    groups: list[Removal]


def divided(
    given: DatasetReader,
    findings: FindingList,
    parameters: Mapping[str, Any],
    places: Mapping[str, Path],
    files: ExitStack,
) -> Parts:
    """Divide a dataset by findings: a record with any removing finding goes to quarantine.

    Args:
        given: the input; becomes the parent of both parts.
        findings: about records of it.
        parameters: settings of the step, for the history.
        places: folders ``kept`` and ``quarantine``.
        files: gives the parts their names when it ends well, the kept one last.

    Raises:
        UnfitInput: a finding that would remove a record that the dataset does not hold.
    """
    down, groups = findings.marked("downweight"), Groups(given.manifest.content.classes)
    weighted = "weight" in {column.name for column in given.manifest.content.columns}

    def each(table: pa.Table, leave: npt.NDArray[np.bool_]) -> pa.Table:
        groups.add(table, leave)
        return _reweighted(table, down) if len(down) else table

    said = dict(parameters) | ({"weight": "changed" if weighted else "added"} if len(down) else {})
    kept, left = divide(given, findings, step="sanitize", parameters=said, places=places, files=files, each=each)
    return Parts(kept, left, findings, groups.removals())


def sample(given: DatasetReader, parts: Parts) -> tuple[Dataset, Split]:
    """The dataset and its division in memory, for a report: whole, or the first records of a large one."""
    tables, rows = [], 0
    for table in given.tables():
        tables.append(table.slice(0, SAMPLE_ROWS - rows))
        rows += tables[-1].num_rows
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    leave = parts.findings.marked(*REMOVING).of(table)
    kept = Dataset(table.filter(pa.array(~leave)), parts.kept.manifest)
    left = Dataset(table.filter(pa.array(leave)), parts.quarantined.manifest)
    known = set(Dataset(table, given.manifest).record_ids) if len(given) > rows else None
    findings = [it for it in parts.findings.objects() if known is None or it.record_id in known]
    return Dataset(table, given.manifest), Split(kept, left, tuple(findings))


def _reweighted(table: pa.Table, down: Marked) -> pa.Table:
    """The records with the weight of those that are marked lowered, or given one."""
    given = "weight" in table.column_names
    weight = table["weight"].cast(pa.float64()).to_numpy().copy() if given else np.ones(table.num_rows)
    weight[down.of(table)] *= DOWNWEIGHT
    if given:
        return table.set_column(table.column_names.index("weight"), "weight", pa.array(weight))
    return table.append_column("weight", pa.array(weight))
