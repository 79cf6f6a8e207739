"""Slices: the same shares for one class, or one source, at a time. An average hides the one that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from assay.data.records import NAME
from assay.estimate import Estimate, curtailed
from assay.evaluate.holdout import Holdout
from assay.evaluate.measure import Plan
from assay.evaluate.outcomes import STANDS, Outcomes
from assay.evidence import robust

__all__ = ["estimates", "members", "sliced"]


def members(data: Holdout, classes: Sequence[str], slices: Sequence[str]) -> dict[str, list[str]]:
    """By what the records are divided, and the name of every record's part.

    Args:
        data: the records, in the order in which they are measured.
        classes: names of the classes; one that would not do in the name of an estimate is told by its number, ``#3``.
        slices: ``class``, ``source`` or both.
    """
    found = {"source": [it.partition("/")[0] for it in data.record_ids]}
    if "class" in slices:
        named = [name if NAME.fullmatch(name) else f"#{number}" for number, name in enumerate(classes)]
        found["class"] = [named[label] for label in data.y]
    return {by: found[by] for by in slices}


def sliced(estimate: str, by: str, name: str) -> str:
    """The name of an estimate on one part, such as ``robust_accuracy[class=7]/linf:0.1``."""
    start, slash, threat = estimate.partition("/")
    return f"{start}[{by}={name}]{slash}{threat}"


def estimates(
    outcomes: Outcomes, plan: Plan, divided: Mapping[str, Sequence[str]], confidence: float
) -> dict[str, Estimate]:
    """``clean_accuracy[<by>=<name>]`` and ``robust_accuracy[<by>=<name>]/<threat>`` of every part.

    Args:
        outcomes: of the first records, or of all.
        plan: what was measured.
        divided: see `members`, for all records.
        confidence: of every interval by itself.
    """
    right = {"clean_accuracy": outcomes.correct}
    right |= {robust("robust_accuracy", threat): outcomes.by[threat.key] == STANDS for threat in plan.threats}
    found = {}
    for by, names in divided.items():
        every = np.array(names)
        measured = every[: len(outcomes.predicted)]
        for name in sorted(set(names)):
            of = measured == name
            for estimate, holds in right.items():
                counted = int(holds[of].sum()), int(of.sum()), int((every == name).sum())
                found[sliced(estimate, by, name)] = curtailed(*counted, confidence)
    return found
