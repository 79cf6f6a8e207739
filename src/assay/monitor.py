"""The step ``monitor``: is the world still the one the model was trained on?

1. load both datasets and check the pin of the reference;
2. measure every feature with every statistic that speaks for its kind;
3. correct for the number of looks (Holm), so that an unchanged world alarms at most ``false_alarm_rate`` of the time;
4. decide: a change that is sure and small is watched, sure and larger investigated, sure and large retrained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2

from assay import canonical, catalog, lineage
from assay.config.base import parse_json
from assay.config.monitor import MonitorConfig
from assay.data.dataset import Dataset
from assay.data.files import write_file
from assay.drift import tables
from assay.drift.decide import DriftFinding, band, decide, holm
from assay.drift.feature import Pair, pairs
from assay.drift.psi import PopulationStability
from assay.errors import Refused, UnfitInput, UnknownName
from assay.progress import track

SCHEMA = "assay.monitor/v1"
BINS = PopulationStability().bins

ACTIONS = {
    "continue": "Nothing to do: nothing was found.",
    "watch": "Nothing to do: a change too small to matter, or too few records to tell. Keep an eye on the next window.",
    "investigate": "Something is not as it should be. Find out why before anything is trained on these records.",
    "retrain": "What serves no longer fits the world, or learned from what it should not have: train again.",
    "undecided": "The window could not be judged: too few records, or values that no statistic can use. Mend it first.",
}

__all__ = ["ACTIONS", "compare", "monitor", "monitor_paths", "record_action"]


def monitor(
    reference: Path,
    current: Path,
    config: MonitorConfig,
    *,
    findings: Path | None = None,
    page: Path | None = None,
    run: str = "",
) -> dict[str, Any]:
    """Compare a window of production with a pinned reference.

    Args:
        reference: dataset folder that counts as normal.
        current: dataset folder of the window.
        config: statistics and bands.
        findings: file for the document, as canonical JSON.
        page: file for the HTML page.
        run: id of the pipeline run.

    Returns:
        The document of ``assay monitor``: action, cause, because, next_check, findings, and both digests.

    Raises:
        Refused: the reference is not the pinned one.
        UnfitInput: a broken dataset, or two of different columns.
    """
    with lineage.step("monitor", run) as record:
        before, now = Dataset.load(reference), Dataset.load(current)
        if config.reference_digest and before.manifest.digest != config.reference_digest:
            raise Refused("reference", f"dataset {before.manifest.digest}", f"the pinned {config.reference_digest}")
        record.uses(before, "reference")
        record.uses(now, "current")
        compared = list(pairs(before, now))
        found, document = compare(compared, config, (len(before), len(now)))
        document |= {"reference": before.manifest.digest, "current": now.manifest.digest}
        if findings is not None:
            write_file(findings, canonical.dumps(document))
            record.shows(findings)
        if page is not None:
            from assay.drift.page import write_page

            write_page(page, document, compared, found)
            record.shows(page)
        record.params |= {"action": document["action"], "cause": document["cause"], "config": config.to_json()}
        record.metrics |= {"max_psi": max((finding.psi or 0.0 for finding in found), default=0.0)}
        return document


def compare(
    compared: Sequence[Pair], config: MonitorConfig, sizes: tuple[int, int]
) -> tuple[list[DriftFinding], dict[str, Any]]:
    """Findings for every feature and statistic, and the document without the digests.

    Args:
        compared: the features.
        config: statistics and bands.
        sizes: records of the reference and of the window.
    """
    members = {name: catalog.build("drift", name) for name in dict.fromkeys(config.statistics)}
    looks = [(pair, name) for pair in compared for name, member in members.items() if pair.kind in member.speaks]
    unheard = sorted({pair.kind for pair in compared} - {kind for member in members.values() for kind in member.speaks})
    if unheard:
        raise UnfitInput("monitor.statistics", f"none that speaks for a {unheard[0]}", "one for every kind of feature")
    level = config.false_alarm_rate / max(len(looks), 1)
    distances = {pair.name: _distance(pair, level) for pair in compared}
    found = [
        _measure(pair, name, members[name], level, config, distances[pair.name])
        for pair, name in track(looks, "monitor", len(looks))
    ]
    found = _banded(found, config)
    decision = decide(found, config, sizes)
    document = {
        "schema": SCHEMA,
        "action": decision.action,
        "cause": decision.cause,
        "because": decision.because,
        "next_check": decision.next_check,
        "findings": [finding.to_json() for finding in found],
        "false_alarm_rate": config.false_alarm_rate,
        "records": {"reference": sizes[0], "current": sizes[1]},
    }
    return found, document


def _distance(pair: Pair, level: float) -> tuple[float, float] | None:
    """Psi of a feature, and the psi that chance reaches at the level; None where there is nothing to compare."""
    if pair.trouble or not min(len(pair.reference), len(pair.current)):
        return None
    before, now = tables.counts(pair.reference, pair.current, BINS)
    scale = 1 / len(pair.reference) + 1 / len(pair.current)
    chance = scale * float(chi2.isf(level, len(before) - 1)) if len(before) > 1 else 0.0
    return float(tables.psi(before, now)), chance


def _measure(
    pair: Pair, name: str, member: Any, level: float, config: MonitorConfig, distance: tuple[float, float] | None
) -> DriftFinding:
    """One look at one feature; whatever cannot be judged becomes trouble and stays undecided."""
    blank = DriftFinding(feature=pair.name, kind=pair.kind, statistic=name, trouble=pair.trouble)
    least = min(len(pair.reference), len(pair.current))
    if pair.trouble:
        return blank
    if distance is None or least < config.least_records:
        return replace(blank, trouble=f"{least} values, {config.least_records} are needed")
    try:
        measured = member(pair.reference, pair.current, level=level, generator=_generator(config.seed, pair.name, name))
    except UnfitInput as error:
        return replace(blank, trouble=str(error))
    return replace(blank, **asdict(measured), psi=distance[0], detectable_psi=distance[1])


def _banded(found: Sequence[DriftFinding], config: MonitorConfig) -> list[DriftFinding]:
    """Findings with their corrected p-values and actions; those in trouble count as looks too, at no evidence."""
    adjusted = holm([1.0 if finding.p_value is None else finding.p_value for finding in found])
    return [
        finding
        if finding.p_value is None or finding.psi is None
        else replace(finding, adjusted_p_value=float(p), action=band(float(p), finding.psi, config))
        for finding, p in zip(found, adjusted, strict=True)
    ]


def _generator(seed: int, feature: str, statistic: str) -> np.random.Generator:
    """Its own for every look, so that one more feature changes none of the others."""
    return np.random.default_rng([seed, int(canonical.digest([feature, statistic])[:16], 16)])


def monitor_paths(
    reference: str, current: str, config: str, findings: str, page: str, run: str
) -> tuple[dict[str, Any], dict[str, float]]:
    """`monitor` for a pipeline: paths and configuration as text; returns the document and the numbers KFP shows."""
    settings = parse_json(MonitorConfig, config, "monitor")
    document = monitor(Path(reference), Path(current), settings, findings=Path(findings), page=Path(page), run=run)
    counts = Counter(finding["action"] for finding in document["findings"])
    distances = [finding["psi"] for finding in document["findings"] if finding["psi"] is not None]
    return document, {name: float(counts[name]) for name in ACTIONS} | {"max_psi": max(distances, default=0.0)}


def record_action(action: str, summary: str, run: str = "") -> str:
    """Write down an answer that starts no training; returns it.

    Raises:
        UnknownName: no action of monitor.
    """
    if action not in ACTIONS:
        raise UnknownName("action of monitor", action, ACTIONS)
    with lineage.step("record_action", run) as record:
        record.tags["assay.action"] = action
        write_file(summary, f"# {action}\n\n{ACTIONS[action]}\n".encode())
        record.shows(summary)
    return action
