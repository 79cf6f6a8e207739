"""Which records of a flagged class go: as many as pay, within the declared rates of clean ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import beta

from assay.filters import Floats
from assay.filters._evidence import LEAST_ORIGIN, Bools, Cell, ClassScores, Ints, boundaries, members, observed, p_value
from assay.filters._sharpen import Discriminants, Stacked, roots
from assay.filters._shift import Shift

CONFIDENCE, CLEAN_COST = 0.95, 2.0
RARE = 0.1
SAME = 0.7
PARTS, ROUNDS, TURNS, AGAIN = 3, 10, 4, 4
KEPT, GROWTH = 0.5, 5.0
LEFT = 0.9

__all__ = ["Cut", "Limits", "best_cut", "remove", "sharp_cut"]


@dataclass(frozen=True)
class Limits:
    """How many clean records may go.

    Fields:
        clean: of a class, in records.
        share: of the records that go by one cut.
        few: whether few classes are flagged.
    """

    clean: float
    share: float
    few: bool = True


@dataclass(frozen=True)
class Cut:
    """What a detector would remove from a class.

    Fields:
        detector: its place in the class's scores.
        chosen: positions in the class.
        gain: records removed, less twice the clean ones that may be among them.
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


def sharp_cut(
    one: ClassScores, first: Sequence[Cut], codes: tuple[int, ...], gone: Bools, suspect: Bools, limits: Limits
) -> list[Cut]:
    """The best cut along a discriminant of the suspects, found again from its own suspects; else the best of the first.

    Suspects are refined in two thirds of the records and the other third is judged, so that no record has a say in what
    it is judged by: refining seeks directions in which the suspect origin exceeds the others, and among hundreds there
    are some by chance alone. Beside every view there is a stack of all with the detectors' scores, and one of the
    detectors' scores alone, which few suspects teach best. Scores by different proxies have no part in either: what
    tells proxies apart would be found in clean records. The best first cut stays where none of them gains more.
    """
    seeds = np.unique(np.concatenate([cut.chosen for cut in first]))
    here, sides = np.flatnonzero(~gone), _sides(one, codes, gone, suspect)
    room = 1 - LEFT * _counted(first[0], sides[0]) / sides[0].sum()
    part = np.random.default_rng(1).permutation(len(here)) % PARTS
    alone = [
        score
        for place, (score, dispersion) in enumerate(zip(one.scores, one.dispersions, strict=True))
        if dispersion == 1 and place not in one.compared
    ]
    scores, said = np.full((len(one.views) + 2, len(gone)), -np.inf), roots(alone, len(gone))
    for leave in range(PARTS):
        use, judged = here[part != leave], here[part == leave]
        fitted = [Discriminants(view[use]) for view in one.views]
        together, few = Stacked(fitted, said[use]), Stacked((), said[use])  # which fit nothing until they are asked
        search = _Search(use, seeds, sides, limits, room)
        chosen = search.best([*([view] * ROUNDS for view in fitted), fitted * TURNS])
        rows = [view[judged] for view in one.views]
        for view, discriminants in enumerate(fitted):
            scores[view, judged] = discriminants.judge(rows[view], np.isin(use, chosen))
        chosen = search.best([[together] * AGAIN], chosen)
        scores[-2, judged] = together.judge(rows, said[judged], np.isin(use, chosen))
        if alone:
            chosen = search.best([[few] * AGAIN])
            scores[-1, judged] = few.judge((), said[judged], np.isin(use, chosen))
    detector = first[0].detector
    cuts = [_cut(own, -np.inf, detector, sides, limits) for own in scores]
    alike = [cut for cut in cuts if cut.gain > first[0].gain and _plausible(cut, seeds, sides, room)]
    return [max(alike, key=lambda cut: cut.gain)] if alike else [first[0]]


def _counted(cut: Cut, own: Bools) -> float:
    """How many clean records a detector counts in the suspect origin: as estimated, or as its own cut leaves."""
    return min(cut.clean, int(own.sum()) - len(cut.chosen) + cut.most)


class _Search:
    """The search for better suspects among the records in use."""

    def __init__(self, use: Ints, seeds: Ints, sides: tuple[Bools, Bools], limits: Limits, room: float) -> None:
        inside = np.isin(np.arange(len(sides[0])), use)
        self.use, self.seeds, self.limits, self.room = use, seeds[inside[seeds]], limits, room
        self.sides = sides[0] & inside, sides[1] & inside

    def best(self, orders: Sequence[Sequence[Discriminants | Stacked]], start: Ints | None = None) -> Ints:
        """The suspects of the best cut, found again and again by the discriminants of each order in turn.

        Every order starts from the first suspects, one of several discriminants from the best so far: each is then
        taught by the other's suspects (Blum and Mitchell 1998), since a view may be blind to this trigger, or need more
        suspects than the detectors noticed.

        Returns:
            Positions; the start where no cut gains.
        """
        best: Cut | None = None
        start = self.seeds if start is None else start
        for order in orders:
            one = order[0] is order[-1]
            chosen = start if best is None or one else best.chosen
            for discriminant in order:
                cut = self._cut(discriminant, chosen)
                if not (cut.gain > 0 and _plausible(cut, self.seeds, self.sides, self.room)):
                    break
                best = max(best or cut, cut, key=lambda cut: cut.gain)
                if one and np.array_equal(np.sort(cut.chosen), np.sort(chosen)):
                    break
                chosen = cut.chosen
        return start if best is None else best.chosen

    def _cut(self, discriminant: Discriminants | Stacked, suspects: Ints) -> Cut:
        scores = np.full(len(self.sides[0]), -np.inf)
        scores[self.use] = discriminant.scores(np.isin(self.use, suspects))
        return _cut(scores, -np.inf, 0, self.sides, self.limits)


def _plausible(cut: Cut, seeds: Ints, sides: tuple[Bools, Bools], room: float) -> bool:
    """Whether a cut holds most of the first suspects, not many times as many, nor more than the detector has room for.

    Sources may be told apart by more than their poison, and a proxy knows what it was fitted to from trusted records: a
    discriminant's own count of clean records is no bound then.
    """
    of_one_kind = len(np.intersect1d(cut.chosen, seeds)) >= KEPT * len(seeds) and len(cut.chosen) <= GROWTH * len(seeds)
    return of_one_kind and len(cut.chosen) <= room * sides[0].sum()


def best_cut(
    one: ClassScores, detector: int, codes: tuple[int, ...], gone: Bools, suspect: Bools, limits: Limits
) -> Cut:
    """Where a removal gains most, within the limits: records above the cut, less twice the clean ones among them.

    So a lower cut pays while two thirds of what it adds is poison. Clean ones are judged by the other origins' share
    above the cut, those origins left out that are suspect themselves, if any remain; gain and limits reckon with the
    upper end of that share's exact interval, so that few reference records give a careful cut. Above all of the others
    the limit in records is left to the share: it could only say that they are few.
    """
    sides = _sides(one, codes, gone, suspect)
    if detector not in one.compared:
        return _cut(one.scores[detector], one.floors[detector], detector, sides, limits, one.dispersions[detector])
    along = Shift.of(one.compared[detector]()).along(*sides)
    return _cut(along, -np.inf, detector, sides, replace(limits, share=min(limits.share, RARE)))


def _sides(one: ClassScores, codes: tuple[int, ...], gone: Bools, suspect: Bools) -> tuple[Bools, Bools]:
    """Records of the suspect origin that are still there, and the others they are measured by."""
    own = members(one.origins, codes)
    others = ~own & ~suspect if (~own & ~suspect).sum() >= LEAST_ORIGIN else ~own
    return ~gone & own, ~gone & others


def _cut(
    scores: Floats, floor: float, detector: int, sides: tuple[Bools, Bools], limits: Limits, dispersion: float = 1.0
) -> Cut:
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
    gain = np.where(within, above - CLEAN_COST * most, 0.0)
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


def _alike(one: Cut, other: Cut) -> bool:
    """Whether two cuts are of the same sub-population: common records by all records of both."""
    common = len(np.intersect1d(one.chosen, other.chosen))
    return common >= SAME * (len(one.chosen) + len(other.chosen) - common)
