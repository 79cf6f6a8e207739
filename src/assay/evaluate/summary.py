"""From what happened to every record to estimates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from assay.estimate import RISK, Estimate, curtailed, paired_difference
from assay.evaluate.measure import Plan
from assay.evaluate.outcomes import STANDS, WRONG, Outcomes
from assay.evaluate.probes import backdoor_success
from assay.evidence import minus_champion, robust
from assay.threat import ThreatModel

__all__ = ["against_champion", "curve", "estimates", "per_class"]

Ints = npt.NDArray[np.int64]


def estimates(
    outcomes: Outcomes, plan: Plan, confidence: float, labels: Ints | None = None, risk: float = RISK
) -> dict[str, Estimate]:
    """Clean accuracy, robust accuracy per threat, and backdoor success per trigger.

    Of an evaluation that stopped before the end, ``labels`` are those of all records, and every interval holds for
    whenever one stops (see `curtailed`).

    ``robust_accuracy/<threat>`` is the share of records that are right and survive the whole ladder;
    ``robust_accuracy/<threat>/<attack>`` the share left after this attack and the cheaper ones before it.
    """
    by, n = outcomes.by, len(outcomes.predicted)
    total = n if labels is None else len(labels)
    found = {"clean_accuracy": curtailed(int(outcomes.correct.sum()), n, total, confidence, risk)}
    for threat in plan.threats:
        state = by[threat.key]
        name = robust("robust_accuracy", threat)
        found[name] = curtailed(int((state == STANDS).sum()), n, total, confidence, risk)
        for number, rung in enumerate(plan.rungs, 1):
            left = int(((state == STANDS) | (state > number)).sum())
            found[f"{name}/{rung.name}"] = curtailed(left, n, total, confidence, risk)
    return found | backdoor_success(outcomes.tallies, plan.triggers, confidence, labels)


def against_champion(outcomes: Outcomes, champion: Outcomes, plan: Plan, confidence: float) -> dict[str, Estimate]:
    """Paired differences on the same records, positive where the candidate is better."""
    found = {minus_champion("clean_accuracy"): _difference(outcomes.correct, champion.correct, confidence)}
    for threat in plan.threats:
        first, second = outcomes.by[threat.key] == STANDS, champion.by[threat.key] == STANDS
        found[robust(minus_champion("robust_accuracy"), threat)] = _difference(first, second, confidence)
    return found


def per_class(
    outcomes: Outcomes, y: Ints, classes: Sequence[str], plan: Plan, confidence: float, labels: Ints | None = None
) -> list[tuple[str, int, list[Estimate]]]:
    """Per class: its name, how many records, clean accuracy and robust accuracy under each threat."""
    rows, every = [], y if labels is None else labels
    for label, name in enumerate(classes):
        of = y == label
        right = [outcomes.correct, *(outcomes.by[threat.key] == STANDS for threat in plan.threats)]
        count, total = int(of.sum()), int((every == label).sum())
        rows.append((name, count, [curtailed(int(each[of].sum()), count, total, confidence) for each in right]))
    return rows


def curve(
    outcomes: Outcomes, plan: Plan, threat: ThreatModel, features: int, confidence: float, labels: Ints | None = None
) -> list[tuple[float, Estimate]]:
    """Radius and robust accuracy against one restart of the strongest attack; the first point is no attack."""
    n, tallies = len(outcomes.predicted), outcomes.tallies
    total = n if labels is None else len(labels)
    right = int((outcomes.by[threat.key] != WRONG).sum())
    points = [(0.0, curtailed(right, n, total, confidence))]
    for number, at in enumerate(plan.curve(threat, features)):
        points.append((at.epsilon, curtailed(tallies[f"curve/{threat.key}/{number}"], n, total, confidence)))
    return points


def _difference(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], confidence: float) -> Estimate:
    return paired_difference(int((first & ~second).sum()), int((~first & second).sum()), len(first), confidence)
