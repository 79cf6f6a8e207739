"""How much of one source or class may be taken out without a person having looked.

A suite, or a detector, that removes most of a group may be right, or may be the attack: a supplier can write records so
that a minority's records look implausible beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.data.dataset import Dataset
from assay.data.layout import batch_codes
from assay.errors import AssayError

__all__ = ["Groups", "Removal", "removals", "require_caps"]


@dataclass(frozen=True)
class Removal:
    """How many records of one group leave.

    Fields:
        kind: ``source`` or ``class``.
        name: of the group.
        removed, records: counts.
    """

    kind: str
    name: str
    removed: int
    records: int

    @property
    def share(self) -> float:
        """Of the group's records, in [0, 1]."""
        return self.removed / self.records


class Groups:
    """Counts records and removals by source and by class, as they pass."""

    def __init__(self, classes: Sequence[str]) -> None:
        """Name the classes, by label."""
        self.classes = classes
        self._counts: dict[tuple[int, str], tuple[int, int]] = {}

    def add(self, table: pa.Table, leave: npt.NDArray[np.bool_]) -> None:
        """Count the records of a table and those of them that leave, (N,)."""
        names, codes = batch_codes(table)
        self._note(0, [name.partition("/")[0] for name in names], codes, leave)
        self._note(1, self.classes, table["label"].to_numpy(), leave)

    def removals(self) -> list[Removal]:
        """Of every source and every class that has records."""
        kinds = ("source", "class")
        return [Removal(kinds[at], name, *counts) for (at, name), counts in sorted(self._counts.items())]

    def _note(
        self, kind: int, names: Sequence[str], codes: npt.NDArray[np.int64], leave: npt.NDArray[np.bool_]
    ) -> None:
        totals, gone = np.bincount(codes), np.bincount(codes[leave], minlength=len(names))
        for at in np.flatnonzero(totals).tolist():
            removed, records = self._counts.get((kind, names[at]), (0, 0))
            self._counts[kind, names[at]] = (removed + int(gone[at]), records + int(totals[at]))


def removals(dataset: Dataset, leave: npt.NDArray[np.bool_]) -> list[Removal]:
    """The removals of every source and every class that has records.

    Args:
        dataset: before the removal.
        leave: which records leave, (N,).
    """
    groups = Groups(dataset.manifest.content.classes)
    groups.add(dataset.table, leave)
    return groups.removals()


def require_caps(found: list[Removal], cap: float) -> None:
    """Refuse to go on when a group loses more than its cap.

    Raises:
        AssayError: needs review (exit 3); names every group above the cap.
    """
    above = [removal for removal in found if not removal.share <= cap]
    if above:
        groups = ", ".join(f"{it.kind} {it.name!r} {it.removed} of {it.records}" for it in above)
        raise AssayError(
            "needs review",
            f"removals of {groups}",
            f"at most a share of {cap} of each source and class",
            "Look at the records, then mend the source, the suite, or raise removal_cap.",
        )
