"""How much of one source or class may be taken out without a person having looked.

A suite, or a detector, that removes most of a group may be right, or may be the attack: a supplier can write records so
that a minority's records look implausible beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.data import records
from assay.data.dataset import Dataset, labels
from assay.errors import AssayError

__all__ = ["Removal", "removals", "require_caps"]


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


def removals(dataset: Dataset, leave: npt.NDArray[np.bool_]) -> list[Removal]:
    """The removals of every source and every class that has records.

    Args:
        dataset: before the removal.
        leave: which records leave, (N,).
    """
    source = np.array(records.sources(dataset.table), dtype=object)
    label = np.array([dataset.manifest.content.classes[value] for value in labels(dataset)], dtype=object)
    found = []
    for kind, groups in (("source", source), ("class", label)):
        for name in sorted(set(groups.tolist())):
            members = groups == name
            found.append(Removal(kind, name, int((members & leave).sum()), int(members.sum())))
    return found


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
