"""How likely a model passes: what a policy asks of the size of a hold-out, before anything is measured."""

from __future__ import annotations

from typing import Any

from scipy.stats import binom

from assay.attempts import confidence_at
from assay.estimate import least_for, proportion

__all__ = ["chance_of_passing", "least_passing", "power_lines", "power_table"]


def least_passing(bar: float, n: int, confidence: float, attempt: int = 1) -> int:
    """The fewest successes of ``n`` with which ``at_least: bar`` holds at an attempt; n + 1 where not even all do."""
    asked = confidence_at(confidence, attempt)
    low, high = 0, n + 1
    while low < high:
        middle = (low + high) // 2
        if proportion(middle, n, asked).low >= bar:
            high = middle
        else:
            low = middle + 1
    return low


def chance_of_passing(share: float, bar: float, n: int, confidence: float, attempt: int = 1) -> float:
    """The exact chance that ``at_least: bar`` holds for a model whose true share is ``share``, on ``n`` records."""
    return float(binom.sf(least_passing(bar, n, confidence, attempt) - 1, n, share))


def power_table(bar: float, n: int, confidence: float, points: float = 0.03) -> list[dict[str, Any]]:
    """Per attempt: the confidence asked, and the chances of models ``points`` below, at and above the bar."""
    shares = {"below": bar - points, "at": bar, "above": bar + points}
    return [
        {
            "attempt": attempt,
            "confidence": confidence_at(confidence, attempt),
            **{name: chance_of_passing(share, bar, n, confidence, attempt) for name, share in shares.items()},
            "records_above": least_for(bar + points, bar, confidence_at(confidence, attempt)),
        }
        for attempt in (1, 2, 5, 10, 100)
    ]


def power_lines(bar: float, n: int, confidence: float, points: float = 0.03) -> list[str]:
    """The table for a terminal."""
    head = f"chance that at_least: {bar:g} holds on {n} records, confidence {confidence:g}, by attempt and true value"
    rows = [
        f"  attempt {row['attempt']:>3}  {bar - points:.3f}: {row['below']:.2g}   {bar:.3f}: {row['at']:.2g}   "
        f"{bar + points:.3f}: {row['above']:.3f}   measured as {bar + points:.3f}, n={row['records_above']} settles it"
        for row in power_table(bar, n, confidence, points)
    ]
    return [head, *rows]
