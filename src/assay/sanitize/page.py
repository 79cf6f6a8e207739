"""The report of sanitize: what left by source and reason, every expectation, and records to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping

from markupsafe import Markup

from assay.config.sanitize import SanitizeConfig
from assay.data.dataset import Dataset
from assay.data.findings import Split
from assay.report import html
from assay.sanitize.caps import Removal
from assay.sanitize.checks import constant_columns
from assay.sanitize.expectations import Outcome
from assay.sanitize.pictures import bars, histogram, image

EXAMPLES = 3

__all__ = ["page_of"]


def page_of(
    given: Dataset, parts: Split, outcomes: list[Outcome], groups: list[Removal], config: SanitizeConfig
) -> str:
    """The whole page, self-contained.

    Args:
        given: the input.
        parts: what became of it.
        outcomes: of the expectations.
        groups: removals of sources and classes.
        config: of the step, with the cap.
    """
    above = [group for group in groups if not group.share <= config.removal_cap]
    removed = parts.kept.manifest.history.removed
    return html.page(
        "Sanitize",
        _answer(parts, above),
        html.section("By source and reason", *_reasons(removed)),
        html.section(
            "Share removed",
            html.table(
                ["group", "name", "removed", "records", "share"],
                [[it.kind, it.name, it.removed, it.records, it.share] for it in groups],
            ),
            lead=f"More than a share of {config.removal_cap} of one source or class needs review.",
        ),
        html.section("Expectations", _expectations(outcomes)),
        html.section("Examples", *_examples(given, parts), lead="The first records of each reason."),
        html.section("Features", *_features(given, parts)),
        lead=f"{len(given)} records of dataset {given.manifest.digest[:12]}.",
    )


def _answer(parts: Split, above: list[Removal]) -> Markup:
    counts = f"{len(parts.kept)} kept, {len(parts.quarantined)} quarantined."
    if above:
        names = ", ".join(f"{group.kind} {group.name}" for group in above)
        return html.banner(
            "needs review", f"Nothing was removed: above the cap in {names}. Would be: {counts}", "unsure"
        )
    return html.banner("divided", counts, "good")


def _reasons(removed: Mapping[str, Mapping[str, int]]) -> list[Markup]:
    rows = [[source, reason, count] for source, counts in removed.items() for reason, count in counts.items()]
    table = html.table(["source", "reason", "records"], rows, caption="A record counts once, under its worst finding.")
    return [table, html.figure(bars(removed), "Records removed by source.")] if rows else [table]


def _expectations(outcomes: list[Outcome]) -> Markup:
    rows = [
        [it.type, json.dumps(it.kwargs, ensure_ascii=False), it.evaluated or "whole table", len(it.failing)]
        for it in outcomes
    ]
    return html.table(["expectation", "settings", "evaluated", "failing"], rows)


def _examples(given: Dataset, parts: Split) -> list[Markup]:
    """Up to three records of every reason, images shown."""
    by_reason: dict[str, list[str]] = {}
    for finding in parts.findings:
        by_reason.setdefault(finding.reason, []).append(finding.record_id)
    place = {name: row for row, name in enumerate(given.record_ids)}
    rows = []
    for reason, names in sorted(by_reason.items()):
        for name in names[:EXAMPLES]:
            row = given.table.slice(place[name], 1)
            label = given.manifest.content.classes[row["label"][0].as_py()]
            rows.append([reason, name, label, *(image(row[column]) for column in given.feature_names[:8])])
    columns = ["reason", "record", "label", *given.feature_names[:8]]
    return [html.table(columns, rows, caption="The first eight features.")]


def _features(given: Dataset, parts: Split) -> list[Markup]:
    constant = constant_columns(given)
    shown = [html.figure(picture, name) for name in given.feature_names[:12] if (picture := histogram(name, parts))]
    if constant:
        shown.insert(0, html.paragraph(f"One value only, so nothing can be learnt from them: {', '.join(constant)}."))
    return shown or [html.missing("Histograms", "no numeric feature")]
