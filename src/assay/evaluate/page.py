"""The page of one evaluation: what was found, how sure it is, and what it looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from assay.data.files import write_file
from assay.estimate import Estimate
from assay.evaluate import summary
from assay.evaluate.holdout import Holdout
from assay.evaluate.look import Looked
from assay.evaluate.measure import Plan
from assay.evaluate.outcomes import Example, Ints, Outcomes
from assay.evidence import Evidence
from assay.report import html, pictures, plots
from assay.threat import ThreatModel

WORST = 6
MAGNIFIED = 10

__all__ = ["write_page"]


def write_page(
    path: Path,
    evidence: Evidence,
    outcomes: Outcomes,
    data: Holdout,
    plan: Plan,
    confidence: float,
    labels: Ints | None = None,
    beside: Looked | None = None,
) -> None:
    """Write the page whole.

    Args:
        path: of the HTML file.
        evidence: what was found.
        outcomes: of every record.
        data: the records.
        plan: what was measured.
        confidence: of the intervals on the page.
        labels: of all records, where the evaluation stopped before the last.
        beside: what the aspects found, each with a section of its own.
    """
    own = set(beside.estimates) if beside else set()
    robustness = {name: each for name, each in evidence.estimates.items() if name not in own}
    every = data.y if labels is None else labels
    part = "" if len(every) == len(data.y) else f" of {len(every)}, enough for the verdict"
    text = html.page(
        "Evaluation",
        _answer(evidence),
        html.section("Estimates", _intervals(robustness), _table(robustness)),
        *(_threat(outcomes, data, plan, threat, confidence, every) for threat in plan.threats),
        html.section("By class", _classes(outcomes, data, plan, confidence, every)),
        *(beside.sections if beside else ()),
        html.section("Soundness", _soundness(evidence), lead="Each check can only take trust away."),
        html.section("Subjects", html.facts({name: html.digest(value) for name, value in evidence.subjects.items()})),
        lead=f"{len(data.rows)} records{part}, intervals of {confidence:.0%} confidence.",
        kicker=f"evidence {evidence.id[:12]}",
    )
    write_file(path, text.encode())


def _answer(evidence: Evidence) -> Markup:
    missed = [name for name, said in evidence.soundness.items() if said == "misses"]
    if evidence.sound:
        return html.banner("sound", "Every check that ran holds: no attack was a sham.", tone="good")
    return html.banner("not sound", f"Robustness is not known: {', '.join(missed)}.", tone="bad")


def _intervals(estimates: dict[str, Estimate]) -> Markup:
    """All shares on one axis, without the intermediate rungs of the ladders."""
    shown = {name: each for name, each in estimates.items() if name.count("/") < 2}
    rows = [plots.Interval(label=name, value=each.value, low=each.low, high=each.high) for name, each in shown.items()]
    return html.figure(plots.intervals(rows, title="Estimates with their intervals"))


def _table(estimates: dict[str, Estimate]) -> Markup:
    rows = [(name, each, each.n, each.method) for name, each in estimates.items()]
    return html.table(["estimate", "value", "records", "method"], rows)


def _threat(
    outcomes: Outcomes, data: Holdout, plan: Plan, threat: ThreatModel, confidence: float, labels: Ints
) -> Markup:
    *points, (box, anywhere) = summary.curve(outcomes, plan, threat, data.x[0].size, confidence, labels)
    estimates = [estimate for _, estimate in points]
    drawn = plots.curve(
        [radius for radius, _ in points],
        [each.low for each in estimates],
        [each.value for each in estimates],
        [each.high for each in estimates],
        title=f"Robust accuracy over the radius, {threat.norm}",
        names=(f"epsilon ({threat.norm})", "robust accuracy"),
    )
    said = (
        f"A short run of {plan.strongest.name} at each radius. Free to move in the whole box (epsilon {box:g}), it "
        f"leaves {anywhere.value:.3f} [{anywhere.low:.3f}, {anywhere.high:.3f}]: of an honest model, next to nothing."
    )
    worst = outcomes.worst(threat.key, WORST)
    parts = [html.figure(drawn, said)]
    if data.x.ndim == 4 and worst:
        caption = f"Record, change times {MAGNIFIED} (grey is none), what the model saw."
        parts.append(html.figure(_examples(worst, data, threat), caption))
    return html.section(f"Threat {threat.key}", *parts)


def _examples(worst: list[Example], data: Holdout, threat: ThreatModel) -> Markup:
    names, ids = data.dataset.manifest.content.classes, data.record_ids
    low, high = threat.bounds
    shown, titles = [], []
    for example in worst:
        delta = (example.x_adv - example.x) / (high - low)
        shown += [
            _picture((example.x - low) / (high - low)),
            _picture(0.5 + MAGNIFIED * delta / 2),
            _picture((example.x_adv - low) / (high - low)),
        ]
        read = f"{names[example.label]} read as {names[example.predicted]}"
        titles += [ids[example.row], f"change × {MAGNIFIED}", read]
    return pictures.images(np.stack(shown), titles, together=3)


def _picture(image: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """(C, H, W) as (H, W), or (H, W, 3) of three channels."""
    return np.moveaxis(image, 0, 2) if image.shape[0] == 3 else image[0]


def _classes(outcomes: Outcomes, data: Holdout, plan: Plan, confidence: float, labels: Ints) -> Markup:
    names = data.dataset.manifest.content.classes
    rows = [
        (name, count, *shares)
        for name, count, shares in summary.per_class(outcomes, data.y, names, plan, confidence, labels)
    ]
    return html.table(["class", "records", "clean accuracy", *(f"robust {t.key}" for t in plan.threats)], rows)


def _soundness(evidence: Evidence) -> Markup:
    return html.table(["check", "said"], [(name, html.badge(said)) for name, said in evidence.soundness.items()])
