"""Sections about the model: the gate's rules, what the model withstands, and whether the measurement can be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from assay import canonical
from assay.estimate import Estimate, proportion
from assay.evidence import Evidence
from assay.report import html, plots
from assay.report.facts import Facts

__all__ = ["measured_section", "model_section", "rules_section", "soundness_section"]


def rules_section(facts: Facts) -> Markup:
    """Every rule: its interval against its bar, and the words."""
    decision = facts.decision.value
    if decision is None:
        return html.section("Gate", html.missing("Decision", facts.decision.why), anchor="gate")
    rows = [rule.interval for rule in decision.body.rules]
    drawn = [row for row in rows if row is not None]
    plot = plots.intervals(drawn, title="Rules of the policy: each interval against its bar", axis="estimate")
    caption = "Shaded: where the policy wants the whole interval to lie. A rule reads the interval, never the point."
    body = [
        (
            html.badge(rule.verdict),
            rule.name if rule.required else f"{rule.name} (advisory)",
            rule.about,
            rule.need,
            rule.estimate,
            rule.note or None,
        )
        for rule in decision.body.rules
    ]
    noted = any(rule.note for rule in decision.body.rules)
    heads = ["verdict", "rule", "about", "needs", "measured", *(["note"] if noted else [])]
    return html.section(
        "Gate",
        *([html.figure(plot, caption)] if drawn else []),
        html.table(heads, [row[: len(heads)] for row in body]),
        lead="Only a decision in which every required rule holds promotes.",
        anchor="gate",
    )


def model_section(facts: Facts) -> Markup:
    """Clean and robust accuracy and backdoor success, each with its interval; per class where outcomes are given."""
    evidence = facts.evidence.value
    if evidence is None:
        return html.section("Model", html.missing("The model", facts.evidence.why), anchor="model")
    estimates = {**evidence.body.estimates, **facts.extra}
    whole = {name: value for name, value in estimates.items() if not name.startswith("backdoor_success")}
    backdoor = {name: value for name, value in estimates.items() if name.startswith("backdoor_success")}
    return html.section(
        "Model",
        _estimates(whole, "Accuracy, clean and under attack"),
        html.heading("Backdoor success, before and after the filter"),
        _backdoor(backdoor),
        html.heading("By class"),
        *_by_class(facts, evidence.body),
        lead=f"Measured on hold-out records that no supplier could touch. {_threats(evidence.body)}",
        anchor="model",
    )


def soundness_section(facts: Facts) -> Markup:
    """What each check of the measurement itself said."""
    evidence = facts.evidence.value
    if evidence is None:
        return html.section("Soundness", html.missing("Soundness", facts.evidence.why), anchor="soundness")
    rows = [(html.badge(str(said)), name.replace("_", " ")) for name, said in sorted(evidence.body.soundness.items())]
    parts = [html.table(["verdict", "check"], rows)]
    if evidence.body.truncated:
        parts.insert(0, html.missing("All of it", "A time limit cut the measurement short."))
    return html.section(
        "Soundness",
        *parts,
        lead="An attack that fails for the wrong reason makes a model look robust. Where a check misses, "
        "robustness was not measured.",
        anchor="soundness",
    )


def measured_section(facts: Facts) -> Markup:
    """How the evidence was made: attacks with every setting, seed, machine kind."""
    evidence = facts.evidence.value
    if evidence is None:
        return Markup("")
    how = {name.replace("_", " "): _told(value) for name, value in sorted(evidence.body.measured.items())}
    return html.section("How it was measured", html.facts(how), anchor="measured")


def _estimates(estimates: Mapping[str, Estimate], title: str) -> Markup:
    shares = {name: value for name, value in estimates.items() if value.n and -1 <= value.low <= value.high <= 1}
    rows = [plots.Interval.of(name, value) for name, value in shares.items()]
    body = [(name, value, value.n, f"{value.confidence:.0%}", value.method) for name, value in estimates.items()]
    table = html.table(["estimate", "value and interval", "records", "confidence", "method"], body)
    return Markup("").join(
        [*([html.figure(plots.intervals(rows, title=title, axis="share of hold-out records"))] if rows else []), table]
    )


def _backdoor(estimates: Mapping[str, Estimate]) -> Markup:
    if not estimates:
        return html.missing("Backdoor success", "No trigger was given to probe with.")
    before = {name: value for name, value in estimates.items() if name.endswith("_unfiltered")}
    after = {name: value for name, value in estimates.items() if name not in before}
    named = {f"before: {name}": value for name, value in before.items()} | {
        f"after: {name}": value for name, value in after.items()
    }
    parts = [_estimates(named, "Share of stamped records that the model calls the target")]
    if not before:
        parts.append(html.missing("Before the filter", "No model was trained on the unfiltered records."))
    return Markup("").join(parts)


def _by_class(facts: Facts, evidence: Evidence) -> list[Markup]:
    table = facts.outcomes.value
    if table is None:
        return [html.missing("Outcomes by class", facts.outcomes.why)]
    if not _agree(table, evidence):
        return [html.missing("Outcomes by class", "The outcomes are not those that the signed evidence counts.")]
    known = facts.filtered.value or facts.kept.value or facts.dataset.value
    classes = known.manifest.content.classes if known else ()
    label = table["label"].to_numpy()
    robust = [name for name in table.column_names if name.startswith("robust/")]
    confidence = next(iter(evidence.estimates.values())).confidence if evidence.estimates else 0.95
    rows = [
        (
            classes[value] if 0 <= value < len(classes) else str(value),
            int((label == value).sum()),
            *(_of(table, name, label == value, confidence) for name in ("clean_correct", *robust)),
        )
        for value in sorted(set(label.tolist()))
    ]
    heads = ["class", "records", "clean accuracy", *(f"robust, {name.removeprefix('robust/')}" for name in robust)]
    return [html.table(heads, rows), _broken_by(table)]


def _of(table: pa.Table, name: str, rows: Any, confidence: float) -> Estimate:
    right = np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.bool_)[rows]
    return proportion(int(right.sum()), len(right), confidence)


def _broken_by(table: pa.Table) -> Markup:
    names = [name for name in table.column_names if name.startswith("broken_by/")]
    rows = [
        (name.removeprefix("broken_by/"), attack or "survived all", count)
        for name in names
        for attack, count in Counter(table[name].to_pylist()).most_common()
    ]
    return html.table(["threat", "broken by", "records"], rows) if rows else Markup("")


def _agree(table: pa.Table, evidence: Evidence) -> bool:
    """Outcomes are not signed: they count only when they give the integers of the signed evidence."""
    clean = evidence.estimates.get("clean_accuracy")
    right = sum(bool(value) for value in table["clean_correct"].to_pylist())
    return clean is not None and clean.counts == {"successes": right, "trials": table.num_rows}


def _threats(evidence: Evidence) -> str:
    threats = evidence.measured.get("threats")
    names = list(threats) if isinstance(threats, Mapping | Sequence) and not isinstance(threats, str) else []
    return f"Threat models: {', '.join(str(name) for name in names)}." if names else ""


def _told(value: Any) -> str:
    """Settings in words: ``fgsm (restarts 1), pgd (restarts 5, steps 40)``."""
    if isinstance(value, Mapping):
        pairs = [
            (name, f"({_told(part)})" if isinstance(part, Mapping) else _told(part)) for name, part in value.items()
        ]
        return ", ".join(f"{name} {part}" for name, part in pairs)
    if value is None or value == "":
        return "none"
    return value if isinstance(value, str) else canonical.dumps(value).decode()
