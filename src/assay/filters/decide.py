"""From scores to removals: is there a poisoned sub-population in a class, how large, which records.

The null hypothesis is that, within a class, records of all sources and the trusted ones are exchangeable: where a
record came from says nothing about its score. It is tested by permuting the origins within the class. For every class,
every detector and every contrast (one source against all others; all sources against the trusted records) the statistic
is the largest excess of that origin among the k most suspicious records, over all k, as the likelihood ratio of the two
by two table. The largest over everything gives single-step adjusted p-values, so that under the hypothesis any class is
flagged with probability at most ``false_alarm_rate``, whatever the detectors and however they depend (Westfall and
Young 1993). No share of poison is assumed and no percentage is cut.

A flagged class loses the records of the suspect origin above the cut that gains most (`assay.filters._cut`). How many
of them are clean is judged by the other origins' share above it, at the upper end of its exact interval, and is bounded
twice: by ``false_discovery_share`` of the records that go, and, all classes together, by ``clean_loss`` of all records.
Where no cut gains within these bounds, the origins differ but no sub-population can be told apart: the class is
reported as such, and loses nothing. A backdoor is of one class, or few: there records may go that are above all of the
others' though ``clean_loss`` has no room for one, which in a small dataset it has not. In many classes at once a source
differs by wrong labels, or altogether, and its clean records are not like the others'. Whose word counts at all is said
in `assay.filters._hearing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from assay.errors import UnfitInput
from assay.filters import Floats, Labels
from assay.filters._cut import Limits
from assay.filters._evidence import Bools, Cell, ClassScores, Ints, contrasts, p_value, permuted
from assay.filters._hearing import Speaker, heard
from assay.filters._linear import by_class
from assay.filters._removal import remove
from assay.filters.features import View
from assay.progress import track

ALL_SOURCES = "*"
FEW = 2

Status = Literal["clean", "poisoned", "differs", "unmeasured"]

__all__ = ["ALL_SOURCES", "ClassVerdict", "Decision", "Scores", "decide"]


@dataclass(frozen=True)
class Scores:
    """What one detector says: of the records under test (N,) and of the trusted ones (T,).

    Records at or below ``floor`` are not suspicious in themselves, and are never removed on this detector's word.
    Statistics are divided by ``dispersion``, the variance of counts in units of what exchangeable records would give.
    ``instrument`` says that the way in which an honest source makes its records is enough to move them. Where origins
    are compared as a whole, ``compared`` holds what they are compared by, whitened (`assay.filters._shift`), and the
    scores are each record's for its own origin.
    """

    records: Floats
    trusted: Floats
    floor: float = -np.inf
    dispersion: float = 1.0
    instrument: bool = False
    compared: View | None = None


@dataclass(frozen=True)
class ClassVerdict:
    """What is known of one class.

    Fields:
        label: of the class; records, trusted: how many there are.
        status: ``unmeasured`` where there are too few records or only one origin; ``differs`` where an origin is
            significantly more suspicious than the others but no sub-population of it can be told apart.
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
    """Which records go (N,) bool, on which detector's word (N,) index into ``detectors`` or -1, and why.

    ``set_aside`` says, by detector, of whose instrument it spoke rather than of a backdoor.
    """

    removed: Bools
    by: Ints
    detectors: tuple[str, ...]
    classes: tuple[ClassVerdict, ...]
    set_aside: Mapping[str, str]


def decide(
    scores: Mapping[str, Scores],
    labels: Labels,
    groups: Sequence[str],
    trusted_labels: Labels,
    *,
    false_alarm_rate: float,
    generator: np.random.Generator,
    permutations: int = 999,
    views: Sequence[View] = (),
    clean_loss: float = 0.003,
    false_discovery_share: float = 0.5,
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
        views: what is known of every record beside the scores; a sub-population that is found is told apart in them.
        clean_loss: share of all records that may go though clean, by an upper bound of 95 % in each cut. Classes that
            are flagged get equal parts of it; no more than two may lose records that are above all others' without.
        false_discovery_share: of the records that go by one cut, the largest share that may be clean, likewise.

    Raises:
        UnfitInput: scores that are not finite or of another length, or too few permutations for the rate.
    """
    _require(scores, labels, groups, trusted_labels, false_alarm_rate, permutations)
    names, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    every = list(_classes(scores, labels, codes, trusted_labels, len(names), views))
    cells, largest = _cells(every, len(names), permutations, generator)
    speakers = [
        Speaker(name, given.dispersion == 1, given.instrument, given.compared is not None)
        for name, given in scores.items()
    ]
    cells, told = heard(
        cells,
        speakers,
        lambda cell: p_value(cell.statistic, largest),
        false_alarm_rate,
        lambda cell: _origin(cell.codes, names),
    )
    guilty = [[cell for cell in own if p_value(cell.statistic, largest) <= false_alarm_rate] for own in cells]
    removed, by = np.zeros(len(labels), dtype=np.bool_), np.full(len(labels), -1)
    verdicts = []
    several = max(1, sum(map(bool, guilty)))
    limits = Limits(clean_loss * len(labels) / several, false_discovery_share, several <= FEW)
    for one, own, flagged in zip(every, cells, guilty, strict=True):
        gone, word, clean = remove(one, flagged, largest, false_alarm_rate, limits)
        removed[one.rows[gone]], by[one.rows[gone]] = True, word[gone]
        worst = max(own, key=lambda cell: cell.statistic, default=None)
        if worst is None:
            verdicts.append(ClassVerdict(one.label, len(one.rows), one.trusted, "unmeasured"))
            continue
        verdicts.append(
            ClassVerdict(
                label=one.label,
                records=len(one.rows),
                trusted=one.trusted,
                status="poisoned" if gone.any() else "differs" if flagged else "clean",
                p_value=p_value(worst.statistic, largest),
                detector=list(scores)[worst.detector],
                origin=_origin(worst.codes, names),
                quarantined=int(gone.sum()),
                expected_clean=clean,
            )
        )
    return Decision(removed, by, tuple(scores), tuple(verdicts), told)


def _origin(codes: tuple[int, ...], names: npt.NDArray[np.str_]) -> str:
    return str(names[codes[0]]) if len(codes) == 1 else ALL_SOURCES


def _cells(
    every: Sequence[ClassScores], origins: int, permutations: int, generator: np.random.Generator
) -> tuple[list[list[Cell]], Floats]:
    """The cells of every class, and per permutation the largest statistic over all of them, sorted."""
    cells: list[list[Cell]] = []
    largest = np.zeros(permutations)
    for one in track(every, "classes", len(every)):
        compared = contrasts(one, origins)
        statistics = permuted(one, compared, permutations, generator)
        largest = np.maximum(largest, statistics[:, :, 1:].max(axis=(0, 1), initial=0.0))
        cells.append(
            [
                Cell(d, codes, float(statistics[d, c, 0]) / one.dispersions[d])
                for d in range(len(one.scores))
                for c, codes in enumerate(compared)
            ]
        )
    return cells, np.sort(largest)


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


@dataclass(frozen=True)
class _OfClass(Sequence[npt.NDArray[Any]]):
    """The views of one class, each in memory only while it is used: of a class that is not flagged never."""

    views: Sequence[View]
    rows: Ints
    reference: Ints

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, at: Any) -> Any:
        return _rows_of(self.views[at], self.rows, self.reference)


def _rows_of(view: View, rows: Ints, reference: Ints) -> npt.NDArray[Any]:
    return np.concatenate([view.records[rows], view.trusted[reference]])


def _classes(
    scores: Mapping[str, Scores],
    labels: Labels,
    codes: Ints,
    trusted_labels: Labels,
    origins: int,
    views: Sequence[View],
) -> Iterator[ClassScores]:
    for label, rows in by_class(labels):
        reference = np.flatnonzero(trusted_labels == label)
        yield ClassScores(
            label=label,
            rows=rows,
            trusted=len(reference),
            origins=np.concatenate([codes[rows], np.full(len(reference), origins)]),
            scores=tuple(np.concatenate([given.records[rows], given.trusted[reference]]) for given in scores.values()),
            floors=tuple(given.floor for given in scores.values()),
            dispersions=tuple(given.dispersion for given in scores.values()),
            views=_OfClass(views, rows, reference),
            compared={
                place: partial(_rows_of, given.compared, rows, reference)
                for place, given in enumerate(scores.values())
                if given.compared is not None
            },
        )
