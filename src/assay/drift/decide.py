"""From p-values and distances to one action, with a stated chance of a false alarm over all features together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from assay.config.monitor import MonitorConfig
from assay.drift.feature import LABEL, Kind

Action = Literal["continue", "watch", "investigate", "retrain", "undecided"]
ALARMS: tuple[Action, ...] = ("investigate", "retrain")

__all__ = ["ALARMS", "Action", "Decision", "DriftFinding", "band", "decide", "holm"]


@dataclass(frozen=True, kw_only=True)
class DriftFinding:
    """What one statistic says of one feature, and what follows.

    Fields:
        feature, kind: what was compared.
        statistic: member of ``drift``.
        value, p_value: as measured; None when it could not be.
        adjusted_p_value: after Holm's correction over all findings.
        null_quantile: the value that chance reaches at the level of one test, where the member knows it.
        psi: distance of the feature, whatever the statistic; None when it could not be measured.
        detectable_psi: the distance that chance reaches at the level of one test.
        action: what this finding alone calls for.
        trouble: why it is undecided, or empty.
    """

    feature: str
    kind: Kind
    statistic: str
    value: float | None = None
    p_value: float | None = None
    adjusted_p_value: float | None = None
    null_quantile: float | None = None
    psi: float | None = None
    detectable_psi: float | None = None
    action: Action = "undecided"
    trouble: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data for canonical JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One action for the whole window.

    Fields:
        action: ``continue``, ``watch``, ``investigate``, ``retrain`` or ``undecided``.
        cause: code: ``no_drift``, ``small_drift``, ``feature_drift``, ``label_drift``, ``feature_and_label_drift``,
            ``too_few_records`` or ``unfit_values``.
        because: the same as a sentence, with the features that decided.
        next_check: when to look again, and at how many records.
    """

    action: Action
    cause: str
    because: str
    next_check: str


def holm(p_values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Adjusted p-values: rejecting those up to alpha errs anywhere with a chance of at most alpha, however they depend.

    Reference: Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(p), 0, -1)))
    adjusted = np.empty_like(stepped)
    adjusted[order] = stepped
    return adjusted


def band(adjusted: float, psi: float, config: MonitorConfig) -> Action:
    """What one finding calls for: an alarm needs both, a change that is sure and one that is large enough."""
    if not (math.isfinite(adjusted) and math.isfinite(psi)):
        return "undecided"
    if adjusted > config.false_alarm_rate:
        return "continue"
    if psi < config.watch_psi:
        return "watch"
    return "retrain" if psi >= config.retrain_psi else "investigate"


def decide(findings: Sequence[DriftFinding], config: MonitorConfig, sizes: tuple[int, int]) -> Decision:
    """The action for the window; a feature that could not be judged never reads as no drift, and never retrains.

    Args:
        findings: every finding, each with its action.
        config: the bands.
        sizes: records of the reference and of the window.
    """
    open_ = [finding for finding in findings if finding.action == "undecided"]
    alarms = [finding for finding in findings if finding.action in ALARMS]
    if not findings or min(sizes) < config.least_records:
        return _too_few(config, sizes)
    if open_:
        return _unfit(open_, alarms)
    if alarms:
        return _alarm(alarms)
    blind = [finding for finding in findings if (finding.detectable_psi or 0.0) > config.retrain_psi]
    small = [finding for finding in findings if finding.action == "watch"]
    if small:
        because = f"A sure but small change (psi below {config.watch_psi:g}): {_names(small)}."
        return Decision(action="watch", cause="small_drift", because=because, next_check="with the next window")
    if blind:
        return _blind(blind, config, sizes)
    because = f"None of {len({finding.feature for finding in findings})} features drifted."
    return Decision(action="continue", cause="no_drift", because=because, next_check="with the next window")


def _too_few(config: MonitorConfig, sizes: tuple[int, int]) -> Decision:
    return Decision(
        action="undecided",
        cause="too_few_records",
        because=f"{sizes[0]} reference and {sizes[1]} current records; {config.least_records} of each are needed.",
        next_check=f"when both hold at least {config.least_records} records",
    )


def _unfit(open_: Sequence[DriftFinding], alarms: Sequence[DriftFinding]) -> Decision:
    said = "; ".join(sorted({f"{finding.feature}: {finding.trouble}" for finding in open_})[:5])
    drifted = f" Other features drifted: {_names(alarms)}." if alarms else ""
    return Decision(
        action="investigate" if alarms else "undecided",
        cause="unfit_values",
        because=f"Not judged: {said}.{drifted}",
        next_check="when the values that could not be judged are mended",
    )


def _alarm(alarms: Sequence[DriftFinding]) -> Decision:
    labels = any(finding.feature == LABEL for finding in alarms)
    features = any(finding.feature != LABEL for finding in alarms)
    retrain = any(finding.action == "retrain" for finding in alarms)
    after = "once the retrained model is in use" if retrain else "once the cause is known"
    return Decision(
        action="retrain" if retrain else "investigate",
        cause="feature_and_label_drift" if labels and features else "label_drift" if labels else "feature_drift",
        because=f"Drifted: {_names(alarms)}.",
        next_check=after,
    )


def _blind(blind: Sequence[DriftFinding], config: MonitorConfig, sizes: tuple[int, int]) -> Decision:
    worst = max(finding.detectable_psi or 0.0 for finding in blind)
    chi_square = worst / (1 / sizes[0] + 1 / sizes[1])
    room = config.retrain_psi / chi_square - 1 / sizes[0]
    more = f"of at least {math.ceil(1 / room):,} records" if room > 0 else "against a larger reference"
    return Decision(
        action="watch",
        cause="too_few_records",
        because=f"No drift seen, but chance alone reaches a psi of {worst:.2f} here ({_names(blind)}).",
        next_check=f"with a window {more}",
    )


def _names(findings: Sequence[DriftFinding]) -> str:
    largest: dict[str, float] = {}
    for finding in findings:
        largest[finding.feature] = max(finding.psi or 0.0, largest.get(finding.feature, 0.0))
    ranked = sorted(largest.items(), key=lambda item: (-item[1], item[0]))
    more = f" and {len(ranked) - 5} more" if len(ranked) > 5 else ""
    return ", ".join(f"{name} (psi {psi:.2f})" for name, psi in ranked[:5]) + more
