"""The page of ``monitor``: the answer, every finding, and the two distributions of the features that moved most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from assay.data.files import write_file
from assay.drift.decide import DriftFinding
from assay.drift.feature import Pair
from assay.report import html
from assay.report.svg import COLOURS, axes, inline
from assay.report.text import visible

MAX_PLOTS, CELLS, CATEGORIES = 16, 24, 12
TONES: Mapping[str, html.Tone] = {
    "continue": "good",
    "watch": "calm",
    "investigate": "bad",
    "retrain": "bad",
    "undecided": "unsure",
}
COLUMNS = ("feature", "statistic", "value", "p", "p corrected", "psi", "calls for", "trouble")

__all__ = ["write_page"]


def write_page(
    path: Path, document: Mapping[str, Any], compared: Sequence[Pair], findings: Sequence[DriftFinding]
) -> None:
    """Write the HTML page, whole.

    Args:
        path: of the page.
        document: of ``assay monitor``.
        compared: every feature.
        findings: in the order of the document.
    """
    ranked = sorted(findings, key=lambda found: (found.adjusted_p_value is not None, found.adjusted_p_value or 0.0))
    names = list(dict.fromkeys(finding.feature for finding in ranked))[:MAX_PLOTS]
    by_name = {pair.name: pair for pair in compared}
    plots = [_plot(by_name[name]) for name in names if not by_name[name].trouble]
    records = document["records"]
    digests = {name: html.digest(document[name]) for name in ("reference", "current")}
    page = html.page(
        "Monitor",
        html.banner(document["action"], document["because"], tone=TONES[document["action"]]),
        html.section(
            "What was compared",
            html.facts(digests | {f"{name} records": count for name, count in records.items()}),
            html.paragraph(
                f"When nothing has changed, investigate or retrain is said at most "
                f"{document['false_alarm_rate']:.2%} of the time, over all {len(findings)} looks together. "
                f"Look again {document['next_check']}."
            ),
        ),
        html.section("Findings", html.table(COLUMNS, [_row(finding) for finding in ranked])),
        html.section("Distributions", *plots, lead="The features with the strongest findings, first."),
        lead="Is the world still the one the model was trained on?",
    )
    write_file(path, page.encode())


def _row(finding: DriftFinding) -> tuple[object, ...]:
    return (
        finding.feature,
        finding.statistic,
        finding.value,
        finding.p_value,
        finding.adjusted_p_value,
        finding.psi,
        finding.action,
        finding.trouble,
    )


def _plot(pair: Pair) -> Markup:
    drawing = _numbers if pair.kind == "number" else _categories
    return html.figure(drawing(pair), caption=pair.name)


def _numbers(pair: Pair) -> Markup:
    """Shares of both samples in common cells of equal width."""
    pooled = np.concatenate([pair.reference, pair.current])
    edges = np.histogram_bin_edges(pooled if len(pooled) else np.array([0.0, 1.0]), bins=CELLS)
    with axes(height=2.2) as drawn:
        for place, (name, values) in enumerate((("reference", pair.reference), ("current", pair.current))):
            shares = np.histogram(values, bins=edges)[0] / max(len(values), 1)
            dashes = ("-", "--")[place]
            drawn.stairs(shares, edges, fill=True, alpha=0.2, color=COLOURS[place])
            drawn.stairs(shares, edges, color=COLOURS[place], linewidth=1.3, ls=dashes, label=name, gid=name)
        drawn.set(xlabel=visible(pair.name), ylabel="share of records", ylim=(0, None))
        drawn.legend()
        return inline(drawn, pair.name, f"{len(pair.reference)} reference and {len(pair.current)} current values.")


def _categories(pair: Pair) -> Markup:
    """Shares of both samples in the categories that both together hold most of."""
    names, counts = np.unique(np.concatenate([pair.reference, pair.current]), return_counts=True)
    shown = names[np.argsort(-counts, kind="stable")][:CATEGORIES]
    with axes(height=0.9 + 0.34 * len(shown)) as drawn:
        for place, (name, values) in enumerate((("reference", pair.reference), ("current", pair.current))):
            shares = [float((values == category).mean()) if len(values) else 0.0 for category in shown]
            places = np.arange(len(shown)) + (place - 0.5) * 0.36
            hatch = ("", "///")[place]
            drawn.barh(places, shares, height=0.34, color=COLOURS[place], alpha=0.75, hatch=hatch, label=name)
        drawn.set_yticks(range(len(shown)), [visible(category)[:40] for category in shown])
        drawn.set(xlabel="share of records", ylim=(len(shown) - 0.4, -0.6))
        drawn.legend()
        return inline(drawn, pair.name, f"{len(names)} categories, the {len(shown)} largest shown.")
