"""The permutation test of one class: does the origin of a record say anything about its score?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

from assay.filters import Floats
from assay.filters._shift import Shift

LEAST_RECORDS = 10
LEAST_ORIGIN = 3
CUTS = 48
CHUNK = 4_000_000

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Origins = npt.NDArray[np.integer[Any]]

__all__ = [
    "LEAST_ORIGIN",
    "Bools",
    "Cell",
    "ClassScores",
    "Ints",
    "boundaries",
    "contrasts",
    "members",
    "observed",
    "p_value",
    "permuted",
    "statistic",
]


@dataclass(frozen=True)
class ClassScores:
    """One class.

    Fields:
        label: of the class.
        rows: positions of its records in the dataset (n,).
        trusted: how many trusted records follow them below.
        origins: codes of the origins (n + trusted,); that of the trusted records is the largest there can be.
        scores: per detector, (n + trusted,).
        floors, dispersions: per detector.
        views: what else is known of each, (n + trusted, E) a view; may be read anew each time it is asked for.
        compared: by place of a detector that compares origins as a whole, what gives the whitened rows (n + trusted, E)
            that it compares them by.
    """

    label: int
    rows: Ints
    trusted: int
    origins: Ints
    scores: tuple[Floats, ...]
    floors: tuple[float, ...]
    dispersions: tuple[float, ...]
    views: Sequence[npt.NDArray[np.floating[Any]]] = ()
    compared: Mapping[int, Callable[[], npt.NDArray[np.float32]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One detector and one contrast of a class.

    Fields:
        detector: its place in the class's scores.
        codes: the origins that are compared with all the others.
        statistic: what was observed.
    """

    detector: int
    codes: tuple[int, ...]
    statistic: float


def contrasts(one: ClassScores, origins: int) -> list[tuple[int, ...]]:
    """Sets of origins that are compared with all the others: each source, and all sources where some are trusted."""
    counts = np.bincount(one.origins, minlength=origins + 1)
    total = counts.sum()
    present = [code for code in range(origins) if counts[code]]
    sets = [(code,) for code in present] + ([tuple(present)] if len(present) > 1 else [])
    sizes = [int(counts[list(codes)].sum()) for codes in sets]
    enough = total >= LEAST_RECORDS
    return [
        codes
        for codes, size in zip(sets, sizes, strict=True)
        if enough and size >= LEAST_ORIGIN and total - size >= LEAST_ORIGIN
    ]


def permuted(
    one: ClassScores, compared: Sequence[tuple[int, ...]], permutations: int, generator: np.random.Generator
) -> Floats:
    """Statistics (detectors, contrasts, 1 + permutations), the observed one first."""
    result = np.empty((len(one.scores), len(compared), permutations + 1))
    orders = [np.argsort(-score, kind="stable") for score in one.scores]
    cuts = [_cuts(score[order], floor) for score, order, floor in zip(one.scores, orders, one.floors, strict=True)]
    shifts = {place: Shift.of(rows()) for place, rows in one.compared.items()}
    small = one.origins.astype(np.int16)
    step = max(1, CHUNK // len(small))
    for start in range(0, permutations + 1, step):
        stop = min(start + step, permutations + 1)
        origins = generator.permuted(np.broadcast_to(small, (stop - start, len(small))), axis=1)
        if start == 0:
            origins[0] = small
        for c, codes in enumerate(compared):
            inside = members(origins, codes)
            for d, order in enumerate(orders):
                found = shifts[d].surprise(inside) if d in shifts else statistic(inside[:, order], cuts[d])
                result[d, c, start:stop] = found
    return result


def members(origins: Origins, codes: tuple[int, ...]) -> Bools:
    """Whether each origin is one of the codes; shape of ``origins``."""
    table = np.zeros(int(origins.max()) + 1, dtype=np.bool_)
    table[list(codes)] = True
    return np.asarray(table[origins])


def _cuts(descending: Floats, floor: float) -> Ints:
    """Numbers of records above a cut: a geometric grid, moved down to where the score really changes."""
    size = len(descending)
    places = boundaries(descending, floor)
    if not len(places):
        return np.empty(0, dtype=np.int64)
    grid = np.unique(np.geomspace(2, max(2, 0.7 * size), CUTS).astype(np.int64))
    place = np.searchsorted(places, grid, side="right") - 1
    return np.unique(places[place[place >= 0]])


def boundaries(descending: Floats, floor: float) -> Ints:
    """Numbers of records above every place where the score changes, all of them above the floor."""
    return np.flatnonzero((descending[:-1] > descending[1:]) & (descending[:-1] > floor)) + 1


def statistic(inside: Bools, cuts: Ints) -> Floats:
    """Largest one-sided likelihood ratio over the cuts (P,), of membership in score order (P, n).

    All rows have equally many members, so that the ratio is a function of the cut and of one count: a table.
    """
    if not len(cuts):
        return np.zeros(len(inside))
    starts = np.concatenate([[0], cuts[:-1]])
    above = np.cumsum(np.add.reduceat(inside[:, : cuts[-1]], starts, axis=1, dtype=np.int64), axis=1)
    size, total = inside.shape[1], int(inside[0].sum())
    count, cut = np.arange(total + 1)[None], cuts[:, None]
    ratio = _divergence(count, cut, total / size) + _divergence(total - count, size - cut, total / size)
    table = np.where((count > cut * total / size) & (count <= cut), ratio, 0.0)
    return np.asarray(table[np.arange(len(cuts)), above].max(axis=1))


def _divergence(count: Ints, size: Ints, share: float) -> Floats:
    """``size`` times the Kullback-Leibler divergence of count/size from share; counts out of range give any number."""
    rest = np.maximum(size - count, 0)
    return np.asarray(xlogy(count, count / (size * share)) + xlogy(rest, rest / (size * (1 - share))))


def observed(one: ClassScores, detector: int, codes: tuple[int, ...], gone: Bools) -> float:
    """The statistic of a detector and a contrast among the records that are not gone, in units of its dispersion."""
    score, inside = one.scores[detector][~gone], members(one.origins, codes)[~gone]
    if not 0 < inside.sum() < len(inside):
        return 0.0
    if detector in one.compared:
        return float(Shift.of(one.compared[detector]()[~gone]).surprise(inside[None])[0]) / one.dispersions[detector]
    order = np.argsort(-score, kind="stable")
    found = statistic(inside[order][None], _cuts(score[order], one.floors[detector]))[0]
    return float(found) / one.dispersions[detector]


def p_value(found: float, largest: Floats) -> float:
    """Share of the permutations, the data itself among them, with a largest statistic of at least ``found``.

    Args:
        found: the statistic observed.
        largest: over all cells, per permutation, sorted.
    """
    above = len(largest) - int(np.searchsorted(largest, found - 1e-9, side="left"))
    return (1 + above) / (1 + len(largest))
