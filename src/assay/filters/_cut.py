"""Which records of a flagged class go: as many as pay, within the declared rates of clean ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import beta

from assay.filters import Floats
from assay.filters._evidence import LEAST_ORIGIN, Bools, Cell, ClassScores, Ints, boundaries, members, observed, p_value
from assay.filters._sharpen import Discriminants

CONFIDENCE, CLEAN_COST = 0.95, 1.25
SAME = 0.7
ROUNDS, TURNS = 10, 4
KEPT, GROWTH = 0.5, 5.0
LEFT = 0.9

__all__ = ["Cut", "Limits", "best_cut", "remove", "sharp_cut"]


@dataclass(frozen=True)
class Limits:
    """How many clean records may go.

    Fields:
        clean: of a class, in records.
        share: of the records that go by one cut.
    """

    clean: float
    share: float


@dataclass(frozen=True)
class Cut:
    """What a detector would remove from a class.

    Fields:
        detector: its place in the class's scores.
        chosen: positions in the class.
        gain: records removed, less five quarters of the clean ones that may be among them.
        expected: clean ones to be expected among them; most: how many there may be.
    """

    detector: int
    chosen: Ints
    gain: float = 0.0
    expected: float = 0.0
    most: float = 0.0


def remove(
    one: ClassScores, flagged: Sequence[Cell], largest: Floats, rate: float, limits: Limits
) -> tuple[Bools, Ints, float]:
    """Choose the records that go.

    Every flagged origin is visited once, with the detector that gains most, joined by those that see the same
    records; all sources against the trusted records come last, where that contrast still stands after the others.

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
    compared = sorted({cell.codes for cell in flagged}, key=lambda codes: (len(codes), codes))
    suspect = members(one.origins, tuple(codes[0] for codes in compared if len(codes) == 1))
    for codes in compared:
        detectors = [cell.detector for cell in flagged if cell.codes == codes]
        standing = [d for d in detectors if p_value(observed(one, d, codes, gone), largest) <= rate]
        cuts = sorted((best_cut(one, d, codes, gone, suspect, limits) for d in standing), key=lambda cut: -cut.gain)
        alike = [cut for cut in cuts if cut.gain > 0 and _alike(cut, cuts[0])]
        for cut in sharp_cut(one, alike, codes, gone, suspect, limits) if alike else []:
            new = cut.chosen[~gone[cut.chosen]]
            gone[new], by[new] = True, cut.detector
            clean += cut.expected * len(new) / len(cut.chosen)
            limits = replace(limits, clean=limits.clean - cut.most * len(new) / len(cut.chosen))
    return gone[: len(one.rows)], by[: len(one.rows)], clean


def sharp_cut(
    one: ClassScores, first: Sequence[Cut], codes: tuple[int, ...], gone: Bools, suspect: Bools, limits: Limits
) -> list[Cut]:
    """The best cut along a discriminant of the suspects, found again from its own suspects; the first ones otherwise.

    Every view is tried by itself and then all of them in turn, each taught by the other's suspects (Blum and Mitchell
    1998): a view may be blind to this trigger, or need more suspects than the detectors noticed. The first cuts stay
    where none gains more, or where those that do point at other records than the detectors did.
    """
    seeds = np.unique(np.concatenate([cut.chosen for cut in first]))
    best, here, sides = None, np.flatnonzero(~gone), _sides(one, codes, gone, suspect)
    either, own = sides[0] | sides[1], sides[0]
    clean = _clean_records(one.scores[first[0].detector][either], own[either])
    most = own.sum() - LEFT * clean  # sources may be told apart by more than their poison
    fitted, views = [Discriminants(view[here]) for view in one.views], range(len(one.views))
    for order in [*([view] * ROUNDS for view in views), [view for _ in range(TURNS) for view in views]]:
        chosen = seeds if best is None or len(set(order)) == 1 else best.chosen
        for view in order:
            scores = _spread(fitted[view].scores(np.isin(here, chosen)), gone)
            cut = _cut(scores, -np.inf, first[0].detector, sides, limits)
            if not (cut.gain > 0 and len(cut.chosen) <= most and _of_one_kind(cut.chosen, seeds)):
                break
            best = max(best or cut, cut, key=lambda cut: cut.gain)
            if len(set(order)) == 1 and np.array_equal(np.sort(cut.chosen), np.sort(chosen)):
                break
            chosen = cut.chosen
    return [best] if best is not None and best.gain > first[0].gain else list(first)


def _spread(scores: Floats, gone: Bools) -> Floats:
    """Scores of the records that are there, in their places."""
    everywhere = np.full(len(gone), -np.inf)
    everywhere[~gone] = scores
    return everywhere


def _of_one_kind(chosen: Ints, seeds: Ints) -> bool:
    """Whether a cut still holds most of the first suspects, and not many times as many."""
    return len(np.intersect1d(chosen, seeds)) >= KEPT * len(seeds) and len(chosen) <= GROWTH * len(seeds)


def best_cut(
    one: ClassScores, detector: int, codes: tuple[int, ...], gone: Bools, suspect: Bools, limits: Limits
) -> Cut:
    """Where a removal gains most, within the limits: records above the cut, less 1.25 times the clean ones among them.

    So a lower cut pays while a fifth of what it adds is poison. Clean ones are judged by the other origins' share above
    the cut, those origins left out that are suspect themselves, if any remain; gain and limits reckon with the upper
    end of that share's exact interval, so that few reference records give a careful cut. Above all of the others the
    limit in records is left to the share: it could only say that they are few.
    """
    return _cut(one.scores[detector], one.floors[detector], detector, _sides(one, codes, gone, suspect), limits)


def _sides(one: ClassScores, codes: tuple[int, ...], gone: Bools, suspect: Bools) -> tuple[Bools, Bools]:
    """Records of the suspect origin that are still there, and the others they are measured by."""
    own = members(one.origins, codes)
    others = ~own & ~suspect if (~own & ~suspect).sum() >= LEAST_ORIGIN else ~own
    return ~gone & own, ~gone & others


def _cut(scores: Floats, floor: float, detector: int, sides: tuple[Bools, Bools], limits: Limits) -> Cut:
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
    most = clean * _upper(others_above, reference)
    within = ((most <= limits.clean) | (others_above == 0)) & (most <= limits.share * above)
    gain = np.where(within, above - CLEAN_COST * most, 0.0)
    at = int(np.argmax(gain))
    if not gain[at] > 0:
        return none
    chosen = order[: counts[at]][inside[: counts[at]]]
    expected = clean * (others_above[at] + 1) / (reference + 1)
    return Cut(detector, chosen, float(gain[at]), min(float(expected), float(len(chosen))), float(most[at]))


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
