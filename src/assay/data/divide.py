"""Writes both parts of a dataset as its records pass: those that stay, and those that leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay import versions
from assay.data.finding_list import FindingList
from assay.data.findings import REMOVING
from assay.data.manifest import History
from assay.data.stream import DatasetReader, DatasetWriter, writing
from assay.errors import UnfitInput

Each = Callable[[pa.Table, npt.NDArray[np.bool_]], pa.Table]

__all__ = ["divide"]


def divide(
    given: DatasetReader,
    findings: FindingList,
    *,
    step: str,
    parameters: Mapping[str, Any],
    places: Mapping[str, Path],
    files: ExitStack,
    each: Each = lambda table, _: table,
) -> tuple[DatasetWriter, DatasetWriter]:
    """Divide a dataset by findings: a record with any removing finding goes to quarantine.

    What is written is what `assay.data.findings.split` would make of the dataset in memory.

    Args:
        given: the input; becomes the parent of both parts.
        findings: about records of it.
        step: the step that speaks.
        parameters: its settings, for the history.
        places: folders ``kept`` and ``quarantine``.
        files: gives the parts their names when it ends well, the kept one last.
        each: is shown every table, with which of its records leave, and gives the records as they are written.

    Returns:
        the kept part and the quarantined one, written but without a name yet.

    Raises:
        UnfitInput: a finding that would remove a record that the dataset does not hold.
    """
    classes = given.manifest.content.classes
    kept, left = (files.enter_context(writing(places[name], classes)) for name in ("kept", "quarantine"))
    leaving = findings.marked(*REMOVING)
    for table in given.tables():
        leave = leaving.of(table)
        table = each(table, leave)
        kept.add(table.filter(pa.array(~leave)) if leave.any() else table)
        left.add(table.filter(pa.array(leave)))
    if len(left) != len(leaving):
        raise UnfitInput("findings", f"{len(leaving)} records to remove, {len(left)} there", "records of this dataset")
    history = History(
        step=step,
        role="quarantine",
        sources=given.manifest.history.sources,
        parents=(given.manifest.digest,),
        parameters=dict(parameters),
        code=versions.code_digest(),
        image=versions.image(),
        findings=findings.digest(),
    )
    kept.finish(replace(history, role="kept", removed=findings.tally()))
    left.finish(history)
    return kept, left
