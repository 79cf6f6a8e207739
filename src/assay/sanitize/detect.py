"""Runs the detectors and cuts their scores where trusted records say that few clean ones lie beyond.

Half of the trusted records are what a detector is fitted to; the other half are scored as the records under test are. A
record's p-value is the share of those that score as high, itself counted in: at a cut of ``rate`` at most that share of
clean records is suspicious, on average over which trusted records there are, whatever the detector and however scores
are distributed (split conformal, Vovk, Gammerman, Shafer 2005). Without trusted records no such rate exists: the cut is
Tukey's outer fence of the scores, and its findings only flag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay import catalog
from assay.config.sanitize import DetectorConfig, SanitizeConfig
from assay.data import records
from assay.data.dataset import Dataset, labels
from assay.data.findings import Action, Finding
from assay.data.matrix import Floats, matrix, numeric_names
from assay.errors import UnfitInput
from assay.models.encoder import Encoder
from assay.progress import track
from assay.sanitize.detectors import FIT_RECORDS, Detector, Labels, Scorer

FAMILY = "sanitize.detectors"
CHUNK, CHUNK_VALUES = 65_536, 2**23
MAX_WIDTH = 4096  # of embeddings: 20,000 of them to fit to are 0.6 GiB
FENCE = 3.0
View = Callable[[pa.Table], Floats]

__all__ = ["Detection", "detect"]


@dataclass(frozen=True)
class Detection:
    """What one detector said.

    Fields:
        name: of the member.
        rate: share of clean records beyond its cut, at most; None where no trusted record says so.
        cut: a record that scores above it is suspicious.
        calibration: trusted records that set it.
        scores: of the records examined, (N,).
        findings: about them.
        on: ``features`` or ``embeddings``.
    """

    name: str
    rate: float | None
    cut: float
    calibration: int
    scores: Floats
    findings: tuple[Finding, ...]
    on: str = "features"

    def to_json(self) -> dict[str, Any]:
        """Plain data for the step's document."""
        facts = {"on": self.on, "rate": self.rate, "cut": self.cut, "calibration": self.calibration}
        return {"detector": self.name, **facts, "records": len(self.scores), "suspicious": len(self.findings)}


@dataclass(frozen=True)
class _Seen:
    """Records as a detector sees them.

    Fields:
        table, y: the records under test.
        view: numbers (N, D) of a table of them.
        width: D.
        trusted: numbers and labels of the trusted records, or None.
    """

    table: pa.Table
    y: Labels
    view: View
    width: int
    trusted: tuple[Floats, Labels] | None

    def of(self, rows: npt.NDArray[np.int64]) -> Floats:
        """The numbers of some records, their positions ascending."""
        parts = [self.view(part) for part, _ in self._pieces(rows)]
        return np.concatenate(parts) if parts else np.empty((0, self.width))

    def names(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The ids of some records, their positions ascending."""
        return [name for part, _ in self._pieces(rows) for name in records.record_ids(part)]

    def scores(self, scorer: Scorer, rows: npt.NDArray[np.int64] | None = None) -> Floats:
        """Scores of all records, or some, chunk by chunk: the numbers of all are never there at once."""
        chosen = np.arange(len(self.y)) if rows is None else rows
        parts = [scorer(self.view(part), self.y[places]) for part, places in self._pieces(chosen)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _pieces(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
        """Some records a piece at a time, with their positions: of a mapped table no more is read than that."""
        step = max(1, min(CHUNK, CHUNK_VALUES // max(1, self.width)))
        for first in range(0, len(self.y), step):
            start, stop = np.searchsorted(rows, [first, first + step])
            if start < stop:
                part, places = self.table.slice(first, step), rows[start:stop]
                yield part if len(places) == part.num_rows else part.take(pa.array(places - first)), places


def detect(
    dataset: Dataset,
    rows: npt.NDArray[np.bool_],
    trusted: Dataset | None,
    config: SanitizeConfig,
    encoder: Encoder | None = None,
) -> list[Detection]:
    """Every configured detector on the chosen records.

    Args:
        dataset: the records.
        rows: which are examined, (N,); their numeric features are finite.
        trusted: records known to be good, or None.
        config: of the step.
        encoder: for the detectors that look at embeddings.

    Raises:
        UnknownName: no such detector or setting.
        UnfitInput: no numeric feature, too few trusted records for a rate, or records that the encoder cannot read.
    """
    if not config.detectors:
        return []
    built = [(name, catalog.build(FAMILY, name, given.settings)) for name, given in sorted(config.detectors.items())]
    seen = {on: _seen(on, dataset, rows, trusted, encoder) for on in {it.on for it in config.detectors.values()}}
    found = []
    for name, member in track(built, "detectors", len(built)):
        given = config.detectors[name]
        known = seen[given.on].trusted
        if known is None:
            found.append(_fenced(name, member, given.on, seen[given.on], config.seed))
        else:
            _require_calibration(name, given, len(known[1]) - len(known[1]) // 2)
            found.append(_calibrated(name, member, given, seen[given.on], known, config.seed))
    return found


def _seen(
    on: str, dataset: Dataset, rows: npt.NDArray[np.bool_], trusted: Dataset | None, encoder: Encoder | None
) -> _Seen:
    table = dataset.table if rows.all() else dataset.table.filter(pa.array(rows))
    view: View = matrix
    if on == "embeddings":
        if encoder is None:
            raise UnfitInput("sanitize.detectors", "embeddings without an encoder", "sanitize.encoder.model")
        for given in [dataset, *([trusted] if trusted is not None else [])]:
            encoder.require(given)
        view = encoder.view(dataset.manifest)
    elif not numeric_names(table):
        raise UnfitInput("sanitize.detectors", "no numeric feature", "numbers or images to measure distances by")
    width = view(table.slice(0, 1)).shape[1]
    if on == "embeddings" and width > MAX_WIDTH:
        raise UnfitInput("sanitize.encoder.layer", f"{width} activations", f"a layer of at most {MAX_WIDTH}")
    return _Seen(table, labels(dataset)[rows], view, width, _reference(trusted, table, view))


def _reference(trusted: Dataset | None, table: pa.Table, view: View) -> tuple[Floats, Labels] | None:
    """Trusted records with finite features, in the columns of the table."""
    if trusted is None:
        return None
    if numeric_names(trusted.table) != numeric_names(table):
        raise UnfitInput("trusted records", f"features {numeric_names(trusted.table)}", f"{numeric_names(table)}")
    finite = np.concatenate([np.isfinite(matrix(part)).all(axis=1) for part in _parts(trusted.table)])
    sound = trusted.table.filter(pa.array(finite))
    return np.concatenate([view(part) for part in _parts(sound)]), labels(trusted)[finite]


def _parts(table: pa.Table) -> list[pa.Table]:
    """Pieces of a table of which each fits into memory as numbers; at least one."""
    return [table.slice(first, FIT_RECORDS) for first in range(0, max(1, table.num_rows), FIT_RECORDS)]


def _require_calibration(name: str, given: DetectorConfig, count: int) -> None:
    """The least p-value is 1 / (count + 1): a smaller rate would never be met, in silence."""
    least = min(given.rate, given.severe_rate or given.rate)
    if not _beyond(least, count):
        raise UnfitInput(
            f"sanitize.detectors.{name}",
            f"rate {least} with {2 * count} trusted records",
            f"at least {2 * int(np.ceil(1 / least - 1))} of them, or a rate of {1 / (count + 1):.2g} or more",
        )


def _calibrated(
    name: str, member: Detector, given: DetectorConfig, seen: _Seen, known: tuple[Floats, Labels], seed: int
) -> Detection:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(known[1]))
    fit, judge = order[: len(order) // 2], order[len(order) // 2 :]
    if member.fits == "records":
        scorer, scores = _among_themselves(member, seen, rng, seed)
    else:
        chosen = fit[:FIT_RECORDS]
        scorer = member.fit(known[0][chosen], known[1][chosen], seed=seed)
        scores = seen.scores(scorer)
    reference = np.sort(_finite(name, scorer(known[0][judge], known[1][judge])))
    _finite(name, scores)
    cut, severe = _cut(reference, given.rate), _cut(reference, given.severe_rate)
    findings, above = [], np.flatnonzero(scores > cut)
    for at, record in zip(above, seen.names(above), strict=True):
        action = given.severe_action if scores[at] > severe else given.action
        findings.append(Finding(record, name, float(scores[at]), member.reason, action))
    return Detection(name, given.rate, cut, len(reference), scores, tuple(findings), given.on)


def _among_themselves(member: Detector, seen: _Seen, rng: np.random.Generator, seed: int) -> tuple[Scorer, Floats]:
    """A detector fitted to the records under test, those it is fitted to scored as such."""
    chosen = _sample(len(seen.y), rng)
    scorer = member.fit(seen.of(chosen), seen.y[chosen], seed=seed)
    scores = seen.scores(scorer)
    scores[chosen] = scorer(seen.of(chosen), seen.y[chosen], same=True)
    return scorer, scores


def _beyond(rate: float, count: int) -> int:
    """How many of ``count`` trusted records, and the one under test, may score higher than the cut."""
    return int(rate * (count + 1) * (1 + 1e-12))


def _cut(reference: Floats, rate: float) -> float:
    """The score above which a record's p-value is at most ``rate``."""
    beyond = _beyond(rate, len(reference))
    return float(reference[len(reference) - beyond]) if beyond else float("inf")


def _fenced(name: str, member: Detector, on: str, seen: _Seen, seed: int) -> Detection:
    """Each half of the records scored by the other, so that no record is measured by itself."""
    rng = np.random.default_rng(seed)
    if member.fits == "records":
        scores = _among_themselves(member, seen, rng, seed)[1]
    else:
        scores, side = np.zeros(len(seen.y)), rng.permutation(len(seen.y)) % 2
        for mine in (0, 1):
            others, own = np.flatnonzero(side != mine), np.flatnonzero(side == mine)
            chosen = others[_sample(len(others), rng)]
            scores[own] = seen.scores(member.fit(seen.of(chosen), seen.y[chosen], seed=seed), own)
    low, high = np.quantile(_finite(name, scores), [0.25, 0.75])
    cut = float(high + FENCE * (high - low))
    action: Action = "flag"
    above = np.flatnonzero(scores > cut)
    findings = tuple(
        Finding(record, name, float(scores[at]), member.reason, action)
        for at, record in zip(above, seen.names(above), strict=True)
    )
    return Detection(name, None, cut, 0, scores, findings, on)


def _sample(count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Positions to fit to: all, or as many as a fit can take."""
    if count <= FIT_RECORDS:
        return np.arange(count)
    return np.sort(rng.choice(count, FIT_RECORDS, replace=False)).astype(np.int64)


def _finite(name: str, scores: Floats) -> Floats:
    if not np.isfinite(scores).all():
        raise UnfitInput(f"sanitize.detectors.{name}", "a score that is not finite", "features of a common magnitude")
    return scores
