"""Which records of a flagged class go: as many as pay, within the declared rates of clean ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from assay.filters import Floats
from assay.filters._cut import Cut, Limits, best_cut
from assay.filters._evidence import Bools, Cell, ClassScores, Ints, members, observed, p_value
from assay.filters._refine import sharp_cut

SAME = 0.7

__all__ = ["remove"]


def remove(
    one: ClassScores, flagged: Sequence[Cell], largest: Floats, rate: float, limits: Limits
) -> tuple[Bools, Ints, float]:
    """Choose the records that go.

    Every flagged origin is visited once, the most suspicious first, with the detector that gains most, joined by those
    that see the same records, if it is still flagged without what has gone; all sources against the trusted records
    come last.

    Args:
        one: the class.
        flagged: its cells with a p-value of at most ``rate``.
        largest: null distribution, see `assay.filters._evidence.p_value`.
        rate: of false alarms.
        limits: of clean records that go with them.

    Returns:
        which records go (n,), the detector for each or -1 (n,), how many clean ones to expect among them.
    """
    gone, by, clean = np.zeros(len(one.origins), dtype=np.bool_), np.full(len(one.origins), -1), 0.0
    statistics: dict[tuple[int, ...], float] = {}
    for cell in flagged:
        statistics[cell.codes] = max(cell.statistic, statistics.get(cell.codes, 0.0))
    compared = sorted(statistics, key=lambda codes: (len(codes), -statistics[codes], codes))
    suspect = members(one.origins, _suspects(one, flagged))
    for codes in compared:
        detectors = [cell.detector for cell in flagged if cell.codes == codes]
        standing = [d for d in detectors if p_value(observed(one, d, codes, gone), largest) <= rate]
        cuts = sorted((best_cut(one, d, codes, gone, suspect, limits) for d in standing), key=lambda cut: -cut.gain)
        alike = [cut for cut in cuts if cut.gain > 0 and _alike(cut, cuts[0])]
        for cut in sharp_cut(one, alike, codes, gone, suspect, limits) if alike and one.views else alike:
            new = cut.chosen[~gone[cut.chosen]]
            gone[new], by[new] = True, cut.detector
            clean += cut.expected * len(new) / len(cut.chosen)
            limits = replace(limits, clean=limits.clean - cut.bound * len(new) / len(cut.chosen))
    return gone[: len(one.rows)], by[: len(one.rows)], clean


def _suspects(one: ClassScores, flagged: Sequence[Cell]) -> tuple[int, ...]:
    """Flagged origins; of those that are compared as a whole the first alone: the others are compared with it."""
    alone = [cell for cell in flagged if len(cell.codes) == 1]
    first = {
        max((cell for cell in alone if cell.detector == place), key=lambda cell: cell.statistic, default=None)
        for place in one.compared
    }
    return tuple(sorted({cell.codes[0] for cell in alone if cell.detector not in one.compared or cell in first}))


def _alike(one: Cut, other: Cut) -> bool:
    """Whether two cuts are of the same sub-population: common records by all records of both."""
    common = len(np.intersect1d(one.chosen, other.chosen))
    return common >= SAME * (len(one.chosen) + len(other.chosen) - common)
