"""Where a removal from a flagged class gains most, within the declared rates of clean records."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import beta

from assay.filters import Floats
from assay.filters._evidence import LEAST_ORIGIN, Bools, ClassScores, Ints, boundaries, members
from assay.filters._shift import Shift

CONFIDENCE, CLEAN_COST = 0.95, 2.0
RARE = 0.1

__all__ = ["Cut", "Limits", "best_cut", "cut_along", "sides_of"]


@dataclass(frozen=True)
class Limits:
    """How many records may go.

    Fields:
        clean: clean ones of a class.
        share: of clean ones among the records that go by one cut.
        few: whether few classes are flagged.
        records: by one cut, clean or not.
    """

    clean: float
    share: float
    few: bool = True
    records: float = np.inf


@dataclass(frozen=True)
class Cut:
    """What a detector would remove from a class.

    Fields:
        detector: its place in the class's scores.
        chosen: positions in the class.
        gain: records removed, less the cost of the clean ones that may be among them.
        expected: clean ones to be expected among them; most: how many there may be; bound: what is held
            to the limit.
        clean: of the suspect origin, in all.
    """

    detector: int
    chosen: Ints
    gain: float = 0.0
    expected: float = 0.0
    most: float = 0.0
    bound: float = 0.0
    clean: float = 0.0


def best_cut(
    one: ClassScores, detector: int, codes: tuple[int, ...], gone: Bools, suspect: Bools, limits: Limits
) -> Cut:
    """Where a removal gains most, within the limits: records above the cut, less twice the clean ones among them.

    So a lower cut pays while more than half of what it adds is poison. Clean ones are judged by the share of the other
    origins above the cut, those left out that are suspect themselves, if any remain; gain and limits reckon with the
    upper end of that share's exact interval, so that few reference records give a careful cut. Above all of the others
    the limit in records is left to the share: it could only say that they are few.
    """
    sides = sides_of(one, codes, gone, suspect)
    if detector not in one.compared:
        return cut_along(one.scores[detector], one.floors[detector], detector, sides, limits, one.dispersions[detector])
    along = Shift.of(one.compared[detector]()).along(*sides)
    return cut_along(along, -np.inf, detector, sides, replace(limits, share=min(limits.share, RARE)))


def sides_of(one: ClassScores, codes: tuple[int, ...], gone: Bools, suspect: Bools) -> tuple[Bools, Bools]:
    """Records of the suspect origin that are still there, and the others they are measured by."""
    own = members(one.origins, codes)
    others = ~own & ~suspect if (~own & ~suspect).sum() >= LEAST_ORIGIN else ~own
    return ~gone & own, ~gone & others


def cut_along(
    scores: Floats,
    floor: float,
    detector: int,
    sides: tuple[Bools, Bools],
    limits: Limits,
    dispersion: float = 1.0,
    clean_cost: float = CLEAN_COST,
) -> Cut:
    """Where a removal along one score gains most, see `best_cut`.

    Args:
        scores: (n,), of the class.
        floor: at or below it nothing goes.
        detector: named in the answer.
        sides: see `sides_of`.
        limits: of what goes.
        dispersion: of counts of the others above a cut.
        clean_cost: of a clean record among those that go; more than 1, the record itself.
    """
    own, others = sides
    here = np.flatnonzero(own | others)
    order = here[np.argsort(-scores[here], kind="stable")]
    score, inside = scores[order], own[order]
    counts, reference = boundaries(score, floor), int((~inside).sum())
    none = Cut(detector, np.empty(0, dtype=np.int64))
    if not len(counts) or not reference:
        return none
    above = np.cumsum(inside)[counts - 1]
    others_above = counts - above
    clean = _clean_records(score, inside)
    upper = np.minimum(dispersion * _upper(others_above, reference), 1.0)
    most = clean * upper
    bound = most if limits.few else inside.sum() * upper
    within = ((bound <= limits.clean) | (limits.few & (others_above == 0))) & (most <= limits.share * above)
    within &= above <= limits.records
    gain = np.where(within, above - clean_cost * most, 0.0)
    at = int(np.argmax(gain))
    if not gain[at] > 0:
        return none
    chosen = order[: counts[at]][inside[: counts[at]]]
    expected = clean * (others_above[at] + 1) / (reference + 1)
    least = min(float(expected), float(len(chosen)))
    return Cut(detector, chosen, float(gain[at]), least, float(most[at]), float(bound[at]), clean)


def _upper(count: Ints, size: int) -> Floats:
    """Upper end of the one-sided exact interval of a share (Clopper and Pearson 1934)."""
    return np.where(count < size, beta.ppf(CONFIDENCE, count + 1, np.maximum(size - count, 1)), 1.0)


def _clean_records(score: Floats, inside: Bools) -> float:
    """How many records of the suspect origin are clean: its share at or below the median of the others, doubled.

    Poison is taken to lie above that median (Storey 2002 with lambda 1/2, where no two scores are equal).
    """
    low = score <= np.median(score[~inside])
    return min(float((low & inside).sum() / low[~inside].mean()), float(inside.sum()))
