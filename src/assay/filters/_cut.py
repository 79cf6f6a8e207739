"""Which records of a flagged class go: a cut that is dear to clean records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from assay.filters import Floats
from assay.filters._evidence import LEAST_ORIGIN, Bools, Cell, ClassScores, Ints, boundaries, members, observed, p_value

CLEAN_COST = 5.0
CONFIDENCE = 0.95
SAME = 0.7

__all__ = ["Cut", "best_cut", "remove"]


@dataclass(frozen=True)
class Cut:
    """What a detector would remove from a class.

    Fields:
        detector: its place in the class's scores.
        chosen: positions in the class.
        gain: records removed, less the cost of the clean ones that may be among them.
        expected: clean ones to be expected among them.
    """

    detector: int
    chosen: Ints
    gain: float = 0.0
    expected: float = 0.0


def remove(one: ClassScores, flagged: Sequence[Cell], largest: Floats, rate: float) -> tuple[Bools, Ints, float]:
    """Choose the records that go.

    Every flagged origin is visited once, with the detector that gains most, joined by those that see the same
    records; all sources against the trusted records come last, where that contrast still stands after the others.

    Args:
        one: the class.
        flagged: its cells with a p-value of at most ``rate``.
        largest: null distribution, see `assay.filters._evidence.p_value`.
        rate: of false alarms.

    Returns:
        which records go (n,), the detector for each or -1 (n,), how many clean ones to expect among them.
    """
    gone, by, clean = np.zeros(len(one.origins), dtype=np.bool_), np.full(len(one.origins), -1), 0.0
    compared = sorted({cell.codes for cell in flagged}, key=lambda codes: (len(codes), codes))
    suspect = members(one.origins, tuple(codes[0] for codes in compared if len(codes) == 1))
    for codes in compared:
        detectors = [cell.detector for cell in flagged if cell.codes == codes]
        standing = [d for d in detectors if p_value(observed(one, d, codes, gone), largest) <= rate]
        cuts = sorted((best_cut(one, d, codes, gone, suspect) for d in standing), key=lambda cut: -cut.gain)
        for cut in (cut for cut in cuts if cut.gain > 0 and _alike(cut, cuts[0])):
            new = cut.chosen[~gone[cut.chosen]]
            gone[new], by[new] = True, cut.detector
            clean += cut.expected * len(new) / len(cut.chosen)
    return gone[: len(one.rows)], by[: len(one.rows)], clean


def best_cut(one: ClassScores, detector: int, codes: tuple[int, ...], gone: Bools, suspect: Bools) -> Cut:
    """Where a removal gains most: records above the cut, less five times the clean ones that may be among them.

    Clean ones are judged by the other origins' share above the cut, those origins left out that are suspect
    themselves, if any remain. The gain reckons with the upper end of that share's exact interval, so that few
    reference records give a careful cut.
    """
    own = members(one.origins, codes)
    others = ~own & ~suspect if (~own & ~suspect).sum() >= LEAST_ORIGIN else ~own
    here = np.flatnonzero(~gone & (own | others))
    order = here[np.argsort(-one.scores[detector][here], kind="stable")]
    score, inside = one.scores[detector][order], own[order]
    counts, reference = boundaries(score, one.floors[detector]), int((~inside).sum())
    if not len(counts) or not reference:
        return Cut(detector, np.empty(0, dtype=np.int64))
    above = np.cumsum(inside)[counts - 1]
    others_above = counts - above
    clean = _clean_records(score, inside)
    gain = above - CLEAN_COST * clean * _upper(others_above, reference)
    at = int(np.argmax(gain))
    chosen = order[: counts[at]][inside[: counts[at]]]
    expected = clean * (others_above[at] + 1) / (reference + 1)
    return Cut(detector, chosen, float(gain[at]), min(float(expected), float(len(chosen))))


def _upper(count: Ints, size: int) -> Floats:
    """Upper end of the one-sided exact interval of a share (Clopper and Pearson 1934)."""
    return np.where(count < size, beta.ppf(CONFIDENCE, count + 1, np.maximum(size - count, 1)), 1.0)


def _clean_records(score: Floats, inside: Bools) -> float:
    """How many records of the suspect origin are clean: its share at or below the median of the others, doubled.

    Poison is taken to lie above that median (Storey 2002 with lambda 1/2, where no two scores are equal).
    """
    low = score <= np.median(score[~inside])
    return min(float((low & inside).sum() / low[~inside].mean()), float(inside.sum()))


def _alike(one: Cut, other: Cut) -> bool:
    """Whether two cuts are of the same sub-population: common records by all records of both."""
    common = len(np.intersect1d(one.chosen, other.chosen))
    return common >= SAME * (len(one.chosen) + len(other.chosen) - common)
