"""From the first suspects of a class to all of their kind, by discriminants taught by some that judge others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from assay.filters import Floats
from assay.filters._cut import Cut, Limits, cut_along, sides_of
from assay.filters._evidence import Bools, ClassScores, Ints
from assay.filters._sharpen import Discriminants, Stacked, roots

PARTS, ROUNDS, TURNS, AGAIN = 3, 10, 4, 4
NARROW = 2
KEPT, GROWTH = 0.5, 5.0
NEARLY, LAST_COST, LAST_SHARE = 0.9, 1.1, 1 / 3
LEFT = 0.9

__all__ = ["sharp_cut"]


def sharp_cut(
    one: ClassScores, first: Sequence[Cut], codes: tuple[int, ...], gone: Bools, suspect: Bools, limits: Limits
) -> list[Cut]:
    """The cut along what the discriminants of the suspects say together; else the best of the first.

    Suspects are refined in two thirds of the records and the other third is judged, so that no record has a say in what
    it is judged by: refining seeks directions in which the suspect origin exceeds the others, and among hundreds there
    are some by chance alone. Views only teach: the last cut is along the mean of stacks over them, of the detectors'
    scores alone, which few suspects teach best, with the last two views, which are the narrowest, and with all. The
    mean errs less than any one, and the best of several would be the luckiest. Scores by different proxies have no part
    in the stacks: what tells proxies apart would be found in clean records.

    Where that gains nearly as much as the best first cut, which was chosen for its gain, it is of their kind, and goes
    lower: first suspects teach better without clean ones among them, but in the last cut a poisoned record that stays
    costs as much as ten clean ones that go. It takes at most a third of the limit more, since among many cuts
    at so low a price one gains by chance where nothing is missing.
    """
    seeds = np.unique(np.concatenate([cut.chosen for cut in first]))
    sides, detector = sides_of(one, codes, gone, suspect), first[0].detector
    room = 1 - LEFT * _counted(first[0], sides[0]) / sides[0].sum()
    scores = _judged(one, np.flatnonzero(~gone), lambda use: _Search(use, seeds, sides, limits, room))
    careful = cut_along(scores, -np.inf, detector, sides, limits)
    if not (careful.gain > NEARLY * first[0].gain and _plausible(careful, seeds, sides, room)):
        return [first[0]]
    limits = replace(limits, records=len(careful.chosen) + LAST_SHARE * limits.clean)
    last = cut_along(scores, -np.inf, detector, sides, limits, clean_cost=LAST_COST)
    return [last if _plausible(last, seeds, sides, room) else careful]


def _judged(one: ClassScores, here: Ints, searched: Callable[[Ints], _Search]) -> Floats:
    """Scores (n,) by discriminants that were refined without the record: what the stacks say in the mean.

    Log-odds count by their logarithm where they are large: the discriminants are no Gaussians that far out, and one
    that is certain must not drown the others.

    Args:
        one: the class.
        here: positions of the records that are still there; the others score nothing.
        searched: the search in some of them.
    """
    part, said = np.random.default_rng(1).permutation(len(here)) % PARTS, _by_one_proxy(one)
    scores = np.full(len(said), -np.inf)
    for leave in range(PARTS):
        use, judged = here[part != leave], here[part == leave]
        fitted = [Discriminants(view[use]) for view in one.views]
        search, rows = searched(use), [view[judged] for view in one.views]
        sharpest = search.best([*([view] * ROUNDS for view in fitted), fitted * TURNS])
        stacked = list(_stacked(search, sharpest, fitted, rows, (said[use], said[judged])))
        scores[judged] = np.mean(np.arcsinh(stacked), axis=0)
    return scores


def _stacked(
    search: _Search, sharpest: Ints, fitted: Sequence[Discriminants], rows: Sequence[Any], said: tuple[Floats, Floats]
) -> Iterator[Floats]:
    """What every stack says of the judged rows, taught by the suspects of a narrower one; of all views, by theirs."""
    chosen = search.seeds
    for width in _widths(len(fitted), said[0].shape[1]):
        last = slice(len(fitted) - width, None)
        stack = Stacked(fitted[last], said[0])
        chosen = search.best([[stack] * AGAIN], sharpest if width == len(fitted) else chosen)
        yield stack.judge(rows[last], said[1], np.isin(search.use, chosen))


def _by_one_proxy(one: ClassScores) -> Floats:
    """Scores (n, D) of the detectors whose word means the same of every origin's records, see `roots`."""
    alike = [
        score
        for place, (score, dispersion) in enumerate(zip(one.scores, one.dispersions, strict=True))
        if dispersion == 1 and place not in one.compared
    ]
    return roots(alike, len(one.origins))


def _widths(views: int, detectors: int) -> list[int]:
    """Of how many of the last views stacks are made, beside the detectors' scores."""
    return sorted({width for width in (0, min(NARROW, views), views) if width + detectors})


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
        return cut_along(scores, -np.inf, 0, self.sides, self.limits)


def _plausible(cut: Cut, seeds: Ints, sides: tuple[Bools, Bools], room: float) -> bool:
    """Whether a cut holds most of the first suspects, not many times as many, nor more than the detector has room for.

    Sources may be told apart by more than their poison, and a proxy knows what it was fitted to from trusted records: a
    discriminant's own count of clean records is no bound then.
    """
    of_one_kind = len(np.intersect1d(cut.chosen, seeds)) >= KEPT * len(seeds) and len(cut.chosen) <= GROWTH * len(seeds)
    return of_one_kind and len(cut.chosen) <= room * sides[0].sum()
