"""From scores to removals: is there a poisoned sub-population in a class, how large, which records.

The null hypothesis is that, within a class, records of all sources and the trusted ones are exchangeable: where a
record came from says nothing about its score. It is tested by permuting the origins within the class. For every class,
every detector and every contrast (one source against all others; all sources against the trusted records) the statistic
is the largest excess of that origin among the k most suspicious records, over all k, as the likelihood ratio of the two
by two table. The largest over everything gives single-step adjusted p-values, so that under the hypothesis any class is
flagged with probability at most ``false_alarm_rate``, whatever the detectors and however they depend (Westfall and
Young 1993). No share of poison is assumed and no percentage is cut.

In a flagged class the cut is placed where the records gained are worth it: the number of records of the suspect origin
above it, less five times the number of clean ones to be expected there by the other origins' share. Every origin is
visited once, with the detector that gains most, joined by the flagged detectors that see the same records; all sources
against the trusted records come last, where that contrast still stands after the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from assay.errors import UnfitInput
from assay.filters import Floats, Labels
from assay.filters._linear import by_class

LEAST_RECORDS = 10
LEAST_ORIGIN = 3
CUTS = 48
CHUNK = 4_000_000
CLEAN_COST = 5.0
SAME = 0.7
ALL_SOURCES = "*"

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Status = Literal["clean", "poisoned", "unmeasured"]

__all__ = ["ALL_SOURCES", "ClassVerdict", "Decision", "Scores", "decide"]


@dataclass(frozen=True)
class Scores:
    """What one detector says: of the records under test (N,) and of the trusted ones (T,).

    Records at or below ``floor`` are not suspicious in themselves, and are never removed on this detector's word.
    """

    records: Floats
    trusted: Floats
    floor: float = -np.inf


@dataclass(frozen=True)
class ClassVerdict:
    """What is known of one class.

    Fields:
        label: of the class; records, trusted: how many there are.
        status: ``unmeasured`` where there are too few records or only one origin.
        p_value: adjusted for all classes, detectors and contrasts; None where unmeasured.
        detector, origin: of the smallest p-value; origin is a source, or ``*`` for all of them against the trusted.
        quarantined: records removed; expected_clean: how many of them are clean, by the other origins' share.
    """

    label: int
    records: int
    trusted: int
    status: Status
    p_value: float | None = None
    detector: str = ""
    origin: str = ""
    quarantined: int = 0
    expected_clean: float = 0.0


@dataclass(frozen=True)
class Decision:
    """Which records go (N,) bool, on which detector's word (N,) index into ``detectors`` or -1, and why."""

    removed: Bools
    by: Ints
    detectors: tuple[str, ...]
    classes: tuple[ClassVerdict, ...]


@dataclass(frozen=True)
class _Class:
    """One class: positions of its records, codes of their origins (trusted last), scores per detector."""

    label: int
    rows: Ints
    origins: Ints
    trusted: int
    scores: tuple[Floats, ...]
    floors: tuple[float, ...]


@dataclass(frozen=True)
class _Cell:
    """One detector and one contrast in a class, with its observed statistic."""

    at: int
    detector: int
    codes: tuple[int, ...]
    observed: float


@dataclass(frozen=True)
class _Cut:
    """Records of a class that a detector would remove (positions), what that gains, and the clean ones expected."""

    gain: float
    detector: int
    chosen: Ints
    expected: float


def decide(
    scores: Mapping[str, Scores],
    labels: Labels,
    groups: Sequence[str],
    trusted_labels: Labels,
    *,
    false_alarm_rate: float,
    generator: np.random.Generator,
    permutations: int = 999,
) -> Decision:
    """Test every class and choose the records to remove.

    Args:
        scores: of every detector.
        labels: (N,) of the records under test.
        groups: origin of every record under test.
        trusted_labels: (T,) of the trusted records.
        false_alarm_rate: chance that a clean dataset loses any record.
        generator: draws the permutations.
        permutations: how many; the least p-value is one over one more than this.

    Raises:
        UnfitInput: scores that are not finite or of another length, or too few permutations for the rate.
    """
    _require(scores, labels, groups, trusted_labels, false_alarm_rate, permutations)
    names, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    every = list(_classes(scores, labels, codes, trusted_labels, len(names)))
    cells: list[_Cell] = []
    largest = np.zeros(permutations)
    for at, one in enumerate(every):
        contrasts = _contrasts(one, len(names))
        if not contrasts:
            continue
        statistics = _permuted(one, contrasts, permutations, generator)
        largest = np.maximum(largest, statistics[:, :, 1:].max(axis=(0, 1)))
        cells += [
            _Cell(at, d, contrast, float(statistics[d, c, 0]))
            for d in range(len(one.scores))
            for c, contrast in enumerate(contrasts)
        ]
    return _conclude(every, cells, np.sort(largest), tuple(scores), names, len(labels), false_alarm_rate)


def _require(
    scores: Mapping[str, Scores],
    labels: Labels,
    groups: Sequence[str],
    trusted_labels: Labels,
    rate: float,
    permutations: int,
) -> None:
    if len(groups) != len(labels):
        raise UnfitInput("origins", f"{len(groups)}", f"{len(labels)}, one a record")
    if not 0 < rate < 1 or permutations * rate < 1:
        raise UnfitInput("false_alarm_rate", f"{rate} with {permutations} permutations", "at least 1 / permutations")
    for name, given in scores.items():
        if given.records.shape != labels.shape or given.trusted.shape != trusted_labels.shape:
            raise UnfitInput(f"scores of {name}", f"{given.records.shape}, {given.trusted.shape}", "one a record")
        if not (np.isfinite(given.records).all() and np.isfinite(given.trusted).all()):
            raise UnfitInput(f"scores of {name}", "NaN or infinity", "finite scores")


def _classes(
    scores: Mapping[str, Scores], labels: Labels, codes: Ints, trusted_labels: Labels, origins: int
) -> Iterator[_Class]:
    for label, rows in by_class(labels):
        reference = np.flatnonzero(trusted_labels == label)
        yield _Class(
            label=label,
            rows=rows,
            origins=np.concatenate([codes[rows], np.full(len(reference), origins)]),
            trusted=len(reference),
            scores=tuple(np.concatenate([given.records[rows], given.trusted[reference]]) for given in scores.values()),
            floors=tuple(given.floor for given in scores.values()),
        )


def _contrasts(one: _Class, origins: int) -> list[tuple[int, ...]]:
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


def _permuted(
    one: _Class, contrasts: list[tuple[int, ...]], permutations: int, generator: np.random.Generator
) -> Floats:
    """Statistics (detectors, contrasts, 1 + permutations), the observed one first."""
    result = np.empty((len(one.scores), len(contrasts), permutations + 1))
    orders = [np.argsort(-score, kind="stable") for score in one.scores]
    cuts = [_cuts(score[order], floor) for score, order, floor in zip(one.scores, orders, one.floors, strict=True)]
    small = one.origins.astype(np.int16)
    step = max(1, CHUNK // len(small))
    for start in range(0, permutations + 1, step):
        stop = min(start + step, permutations + 1)
        origins = generator.permuted(np.broadcast_to(small, (stop - start, len(small))), axis=1)
        if start == 0:
            origins[0] = small
        for c, codes in enumerate(contrasts):
            inside = np.isin(origins, codes)
            for d, order in enumerate(orders):
                result[d, c, start:stop] = _statistic(inside[:, order], cuts[d])
    return result


def _cuts(descending: Floats, floor: float) -> Ints:
    """Numbers of records above a cut: a geometric grid, moved down to where the score really changes."""
    size = len(descending)
    boundaries = _boundaries(descending, floor)
    if not len(boundaries):
        return np.empty(0, dtype=np.int64)
    grid = np.unique(np.geomspace(2, max(2, 0.7 * size), CUTS).astype(np.int64))
    place = np.searchsorted(boundaries, grid, side="right") - 1
    return np.unique(boundaries[place[place >= 0]])


def _boundaries(descending: Floats, floor: float) -> Ints:
    """Numbers of records above every place where the score changes, all of them above the floor."""
    return np.flatnonzero((descending[:-1] > descending[1:]) & (descending[:-1] > floor)) + 1


def _statistic(inside: Bools, cuts: Ints) -> Floats:
    """Largest one-sided likelihood ratio over the cuts (P,), of membership in score order (P, n)."""
    if not len(cuts):
        return np.zeros(len(inside))
    edges = np.concatenate([[0], cuts])
    ends = [inside[:, low:high].sum(axis=1) for low, high in pairwise(edges)]
    above = np.cumsum(np.stack(ends, axis=1), axis=1).astype(np.float64)
    total, size = inside.sum(axis=1, keepdims=True).astype(np.float64), inside.shape[1]
    share = total / size
    ratio = _divergence(above, cuts, share) + _divergence(total - above, size - cuts, share)
    return np.asarray(np.where(above > cuts * share, ratio, 0.0).max(axis=1))


def _divergence(count: Floats, size: Ints, share: Floats) -> Floats:
    """``size`` times the Kullback-Leibler divergence of count/size from share."""
    rest, expected = size - count, size * share
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(count > 0, count * np.log(count / expected), 0.0)
        second = np.where(rest > 0, rest * np.log(rest / (size - expected)), 0.0)
    return np.asarray(first + second)


def _conclude(
    every: list[_Class],
    cells: list[_Cell],
    largest: Floats,
    detectors: tuple[str, ...],
    names: npt.NDArray[np.str_],
    records: int,
    rate: float,
) -> Decision:
    removed, by = np.zeros(records, dtype=np.bool_), np.full(records, -1)
    verdicts = []
    for at, one in enumerate(every):
        own = sorted((cell for cell in cells if cell.at == at), key=lambda cell: -cell.observed)
        if not own:
            verdicts.append(ClassVerdict(one.label, len(one.rows), one.trusted, "unmeasured"))
            continue
        flagged = [cell for cell in own if _p_value(cell.observed, largest) <= rate]
        gone, word, clean = _remove(one, flagged, largest, rate)
        removed[one.rows[gone]], by[one.rows[gone]] = True, word[gone]
        verdicts.append(
            ClassVerdict(
                label=one.label,
                records=len(one.rows),
                trusted=one.trusted,
                status="poisoned" if flagged else "clean",
                p_value=_p_value(own[0].observed, largest),
                detector=detectors[own[0].detector],
                origin=str(names[own[0].codes[0]]) if len(own[0].codes) == 1 else ALL_SOURCES,
                quarantined=int(gone.sum()),
                expected_clean=clean,
            )
        )
    return Decision(removed, by, detectors, tuple(verdicts))


def _p_value(observed: float, largest: Floats) -> float:
    above = len(largest) - int(np.searchsorted(largest, observed - 1e-9, side="left"))
    return (1 + above) / (1 + len(largest))


def _remove(one: _Class, flagged: list[_Cell], largest: Floats, rate: float) -> tuple[Bools, Ints, float]:
    """Records of the class that go (n,), the detector for each, and how many clean ones are expected among them."""
    gone, by, clean = np.zeros(len(one.origins), dtype=np.bool_), np.full(len(one.origins), -1), 0.0
    for codes in sorted({cell.codes for cell in flagged}, key=lambda codes: (len(codes), codes)):
        standing = [
            cell for cell in flagged if cell.codes == codes and _p_value(_observed(one, cell, gone), largest) <= rate
        ]
        cuts = sorted((_best_cut(one, cell, gone) for cell in standing), key=lambda cut: -cut.gain)
        for cut in (cut for cut in cuts if cut.gain > 0 and _alike(cut, cuts[0])):
            new = cut.chosen[~gone[cut.chosen]]
            gone[new], by[new] = True, cut.detector
            clean = clean + cut.expected if cut is cuts[0] else clean + cut.expected * len(new) / len(cut.chosen)
    return gone[: len(one.rows)], by[: len(one.rows)], clean


def _alike(one: _Cut, other: _Cut) -> bool:
    """Whether two cuts are of the same sub-population: common records by all records of both."""
    common = len(np.intersect1d(one.chosen, other.chosen))
    return common >= SAME * (len(one.chosen) + len(other.chosen) - common)


def _observed(one: _Class, cell: _Cell, gone: Bools) -> float:
    score, inside = one.scores[cell.detector][~gone], np.isin(one.origins[~gone], cell.codes)
    order = np.argsort(-score, kind="stable")
    if not 0 < inside.sum() < len(inside):
        return 0.0
    return float(_statistic(inside[order][None], _cuts(score[order], one.floors[cell.detector]))[0])


def _best_cut(one: _Class, cell: _Cell, gone: Bools) -> _Cut:
    """Where a cell's removal gains most."""
    here = np.flatnonzero(~gone)
    order = here[np.argsort(-one.scores[cell.detector][here], kind="stable")]
    inside = np.isin(one.origins[order], cell.codes)
    score = one.scores[cell.detector][order]
    counts = _boundaries(score, one.floors[cell.detector])
    reference = int((~inside).sum())
    if not len(counts) or not reference:
        return _Cut(0.0, cell.detector, np.empty(0, dtype=np.int64), 0.0)
    above, others = np.cumsum(inside)[counts - 1], np.cumsum(~inside)[counts - 1]
    expected = _clean_records(inside) * (others + 1) / (reference + 1)
    gain = above - CLEAN_COST * expected
    at = int(np.argmax(gain))
    chosen = order[: counts[at]][inside[: counts[at]]]
    return _Cut(float(gain[at]), cell.detector, chosen, min(float(expected[at]), float(len(chosen))))


def _clean_records(inside: Bools) -> float:
    """How many records of the suspect origin are clean: twice those below the median of the other origins.

    The records come most suspicious first; poison is taken to lie above that median (Storey 2002 with lambda 1/2).
    """
    middle = np.flatnonzero(~inside)[int((~inside).sum()) // 2]
    below = (~inside[middle:]).sum() / (~inside).sum()
    return min(float(inside[middle:].sum() / below), float(inside.sum()))
