"""Runs the detectors and cuts their scores where trusted records say that few clean ones lie beyond.

Half of the trusted records are what a detector is fitted to; the other half are scored as the records under test are. A
record's p-value is the share of those that score as high, itself counted in: at a cut of ``rate`` at most that share of
clean records is suspicious, on average over which trusted records there are, whatever the detector and however scores
are distributed (split conformal, Vovk, Gammerman, Shafer 2005). Without trusted records no such rate exists: the cut is
Tukey's outer fence of the scores, and its findings only flag.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from assay.progress import track
from assay.sanitize.detectors import FIT_RECORDS, Detector, Labels, Scorer

FAMILY = "sanitize.detectors"
CHUNK = 65_536
FENCE = 3.0

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
    """

    name: str
    rate: float | None
    cut: float
    calibration: int
    scores: Floats
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for the step's document."""
        facts = {"rate": self.rate, "cut": self.cut, "calibration": self.calibration}
        return {"detector": self.name, **facts, "records": len(self.scores), "suspicious": len(self.findings)}


def detect(
    dataset: Dataset, rows: npt.NDArray[np.bool_], trusted: Dataset | None, config: SanitizeConfig
) -> list[Detection]:
    """Every configured detector on the chosen records.

    Args:
        dataset: the records.
        rows: which are examined, (N,); their numeric features are finite.
        trusted: records known to be good, or None.
        config: of the step.

    Raises:
        UnknownName: no such detector or setting.
        UnfitInput: no numeric feature, or too few trusted records for a rate.
    """
    if not config.detectors:
        return []
    table = dataset.table.filter(pa.array(rows))
    if not numeric_names(table):
        raise UnfitInput("sanitize.detectors", "no numeric feature", "numbers or images to measure distances by")
    known = _reference(trusted, table)
    built = [(name, catalog.build(FAMILY, name, given.settings)) for name, given in sorted(config.detectors.items())]
    ids = records.record_ids(table)
    y = labels(dataset)[rows]
    found = []
    for name, member in track(built, "detectors", len(built)):
        given = config.detectors[name]
        if known is None:
            found.append(_fenced(name, member, table, y, ids, config.seed))
        else:
            _require_calibration(name, given, len(known[1]) - len(known[1]) // 2)
            found.append(_calibrated(name, member, given, table, y, ids, known, config.seed))
    return found


def _reference(trusted: Dataset | None, table: pa.Table) -> tuple[Floats, Labels] | None:
    """Trusted records with finite features, in the columns of the table."""
    if trusted is None:
        return None
    if numeric_names(trusted.table) != numeric_names(table):
        raise UnfitInput("trusted records", f"features {numeric_names(trusted.table)}", f"{numeric_names(table)}")
    x, y = matrix(trusted.table), labels(trusted)
    finite = np.isfinite(x).all(axis=1)
    return x[finite], y[finite]


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
    name: str,
    member: Detector,
    given: DetectorConfig,
    table: pa.Table,
    y: Labels,
    ids: list[str],
    known: tuple[Floats, Labels],
    seed: int,
) -> Detection:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(known[1]))
    fit, judge = order[: len(order) // 2], order[len(order) // 2 :]
    if member.fits == "records":
        chosen = _sample(len(y), rng)
        scorer = member.fit(matrix(table.take(pa.array(chosen))), y[chosen], seed=seed)
        scores = _all(scorer, table, y)
        scores[chosen] = scorer(matrix(table.take(pa.array(chosen))), y[chosen], same=True)
    else:
        chosen = fit[:FIT_RECORDS]
        scorer = member.fit(known[0][chosen], known[1][chosen], seed=seed)
        scores = _all(scorer, table, y)
    reference = np.sort(_finite(name, scorer(known[0][judge], known[1][judge])))
    _finite(name, scores)
    cut, severe = _cut(reference, given.rate), _cut(reference, given.severe_rate)
    findings = []
    for at in np.flatnonzero(scores > cut):
        action = given.severe_action if scores[at] > severe else given.action
        findings.append(Finding(ids[at], name, float(scores[at]), member.reason, action))
    return Detection(name, given.rate, cut, len(reference), scores, tuple(findings))


def _beyond(rate: float, count: int) -> int:
    """How many of ``count`` trusted records, and the one under test, may score higher than the cut."""
    return int(rate * (count + 1) * (1 + 1e-12))


def _cut(reference: Floats, rate: float) -> float:
    """The score above which a record's p-value is at most ``rate``."""
    beyond = _beyond(rate, len(reference))
    return float(reference[len(reference) - beyond]) if beyond else float("inf")


def _fenced(name: str, member: Detector, table: pa.Table, y: Labels, ids: list[str], seed: int) -> Detection:
    """Each half of the records scored by the other, so that no record is measured by itself."""
    rng = np.random.default_rng(seed)
    scores = np.zeros(len(y))
    if member.fits == "records":
        chosen = _sample(len(y), rng)
        scorer = member.fit(matrix(table.take(pa.array(chosen))), y[chosen], seed=seed)
        scores = _all(scorer, table, y)
        scores[chosen] = scorer(matrix(table.take(pa.array(chosen))), y[chosen], same=True)
    else:
        side = rng.permutation(len(y)) % 2
        for mine in (0, 1):
            others, own = np.flatnonzero(side != mine), np.flatnonzero(side == mine)
            chosen = others[_sample(len(others), rng)]
            scorer = member.fit(matrix(table.take(pa.array(chosen))), y[chosen], seed=seed)
            scores[own] = _all(scorer, table.take(pa.array(own)), y[own])
    low, high = np.quantile(_finite(name, scores), [0.25, 0.75])
    cut = float(high + FENCE * (high - low))
    action: Action = "flag"
    findings = tuple(
        Finding(ids[at], name, float(scores[at]), member.reason, action) for at in np.flatnonzero(scores > cut)
    )
    return Detection(name, None, cut, 0, scores, findings)


def _sample(count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Positions to fit to: all, or as many as a fit can take."""
    if count <= FIT_RECORDS:
        return np.arange(count)
    return np.sort(rng.choice(count, FIT_RECORDS, replace=False)).astype(np.int64)


def _all(scorer: Scorer, table: pa.Table, y: Labels) -> Floats:
    """Scores of a table, chunk by chunk: the matrix of all records is never there at once."""
    parts = [scorer(matrix(part), y[first : first + len(part)]) for first, part in _chunks(table)]
    return np.concatenate(parts) if parts else np.empty(0)


def _chunks(table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    for first in range(0, table.num_rows, CHUNK):
        yield first, table.slice(first, CHUNK)


def _finite(name: str, scores: Floats) -> Floats:
    if not np.isfinite(scores).all():
        raise UnfitInput(f"sanitize.detectors.{name}", "a score that is not finite", "features of a common magnitude")
    return scores
