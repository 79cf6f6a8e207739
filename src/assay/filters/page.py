"""The report of the filter: what each class looks like to the detectors, what was found, and whose it is."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from markupsafe import Markup

from assay.config.filters import FilterConfig
from assay.data import records
from assay.data.dataset import Dataset, labels
from assay.filters import Floats
from assay.filters._linear import principal, scatter
from assay.filters.decide import ALL_SOURCES, ClassVerdict
from assay.filters.examine import Examined
from assay.filters.self_test import NAME, Power
from assay.report import html, plots

EXAMPLES = 12

__all__ = ["page_of"]


def page_of(
    given: Dataset, examined: Examined, config: FilterConfig, found: list[str], power: Power | None = None
) -> str:
    """The whole page, self-contained.

    Args:
        given: the records under test.
        examined: what the filter knows of them.
        config: of the step.
        found: what needs review before anything may go.
        power: what the self-test found, where one ran.
    """
    verdicts = examined.decision.classes
    flagged = [one for one in verdicts if one.quarantined]
    return html.page(
        "Poison filter",
        _answer(examined, found),
        html.section("Classes", _classes(given, verdicts), *_silent(examined), lead=_how(config)),
        html.section("Sources", *_sources(given, examined), lead="Ranked by share of suspects."),
        *(_class(given, examined, one) for one in flagged),
        html.section("Power", _power(power, config)),
        html.section("Scores", *_scores(given, examined), lead="Higher is worse; comparable within a class."),
        lead=f"{len(given)} records of dataset {given.manifest.digest[:12]}.",
    )


def _answer(examined: Examined, found: list[str]) -> Markup:
    gone = int(examined.decision.removed.sum())
    if found:
        text = f"Nothing was removed. A person has to look at the suspects in {', '.join(found)}."
        return html.banner("needs review", text, "unsure")
    if gone:
        return html.banner("poison found", f"{gone} records quarantined.", "bad")
    if all(one.status == "unmeasured" for one in examined.decision.classes):
        return html.banner("unmeasured", "There was nothing to compare any class with; nothing was removed.", "unsure")
    return html.banner("no poison found", "Nothing was removed.", "good")


def _how(config: FilterConfig) -> str:
    return (
        "p-values are adjusted for all classes, detectors and comparisons: where sources do not differ, the chance "
        f"that any class falls below {config.false_alarm_rate} is at most that."
    )


def _classes(given: Dataset, verdicts: tuple[ClassVerdict, ...]) -> Markup:
    names = given.manifest.content.classes
    rows = [
        [
            names[one.label],
            one.status,
            one.p_value,
            one.detector,
            "all" if one.origin == ALL_SOURCES else one.origin,
            one.quarantined,
            one.expected_clean,
            one.records,
            one.trusted,
        ]
        for one in verdicts
    ]
    columns = ["class", "answer", "p-value", "detector", "origin", "quarantined", "clean, expected"]
    return html.table([*columns, "records", "trusted"], rows)


def _power(power: Power | None, config: FilterConfig) -> Markup:
    """What would have been found, by kind of trigger."""
    if power is None:
        return html.missing("self-test", "No trials were asked for: filter.self_test.trials is 0.")
    rows: list[list[object]] = [
        [
            f"a {kind} backdoor in {power.planted} records",
            f"{found.counts['successes']} of {found.n}",
            f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]",
            float(power.removed[kind].mean()),
        ]
        for kind in power.removed
        for found in [power.estimates()[f"{NAME}/{kind}"]]
    ]
    share = f"share removed of the {config.self_test.share:.1%} planted, mean"
    return html.table(["of this kind", "found", "chance to be found, 95 %", share], rows)


def _silent(examined: Examined) -> list[Markup]:
    return [html.missing(name, why) for name, why in examined.silent.items()]


def _sources(given: Dataset, examined: Examined) -> list[Markup]:
    of_record = records.sources(given.table)
    every = Counter(of_record)
    gone = Counter(np.array(of_record, dtype=object)[examined.decision.removed].tolist())
    ranked = sorted(every, key=lambda name: (-gone[name] / every[name], name))
    rows = [[name, gone[name], every[name], gone[name] / every[name]] for name in ranked]
    counts = {name: {"kept": every[name] - gone[name], "quarantined": gone[name]} for name in ranked}
    return [
        html.table(["source", "suspects", "records", "share"], rows),
        html.figure(plots.bars(counts, title="Records by source"), "Records kept and quarantined, by source."),
    ]


def _class(given: Dataset, examined: Examined, one: ClassVerdict) -> Markup:
    """A flagged class: the cluster in the plane, and what its records look like."""
    name = given.manifest.content.classes[one.label]
    rows = np.flatnonzero(labels(given) == one.label)
    reference = examined.trusted_labels == one.label
    points = np.concatenate([examined.spaces.penultimate.records[rows], examined.spaces.penultimate.trusted[reference]])
    gone = examined.decision.removed[rows]
    groups = [*np.where(gone, "quarantined", "kept").tolist(), *["trusted"] * int(reference.sum())]
    plane = plots.scatter(
        _plane(points, np.concatenate([gone, np.zeros(int(reference.sum()), dtype=np.bool_)])),
        groups,
        title=f"Class {name} in two dimensions",
        names=("between the two groups", "leading direction across it"),
    )
    return html.section(
        f"Class {name}",
        html.figure(plane, "Penultimate activations of the proxy, along the line between the groups and across it."),
        *_pictures(given, examined, rows),
        lead=f"{one.quarantined} of {one.records} records quarantined, p = {one.p_value}.",
    )


def _plane(points: Floats, gone: npt.NDArray[np.bool_]) -> Floats:
    """Coordinates (n, 2): along the line between the centres of the two groups, and the leading direction across it."""
    centred = points - points.mean(axis=0)
    between = points[gone].mean(axis=0) - points[~gone].mean(axis=0) if not gone.all() else np.zeros(points.shape[1])
    length = float(np.linalg.norm(between))
    along = between / length if length > 0 else principal(scatter(centred)[2], 1)[:, 0]
    rest = centred - np.outer(centred @ along, along)
    return np.stack([centred @ along, rest @ principal(scatter(rest)[2], 1)[:, 0]], axis=1)


def _pictures(given: Dataset, examined: Examined, rows: npt.NDArray[np.int64]) -> list[Markup]:
    """The most suspicious records quarantined, beside records of the class that were kept."""
    x, gone = examined.x, examined.decision.removed
    if x.ndim != 4:
        return []
    by_score = sorted(rows[gone[rows]], key=lambda row: (-_deciding_score(examined, row), row))
    shown = []
    for heading, chosen in (("Quarantined", by_score), ("Kept", rows[~gone[rows]])):
        few = [int(row) for row in chosen[:EXAMPLES]]
        if few:
            pictures = x[few].transpose(0, 2, 3, 1)
            pictures = pictures if pictures.shape[3] == 3 else pictures[..., 0]
            shown += [
                html.heading(heading),
                plots.images(pictures, records.record_ids(given.table.take(pa.array(few)))),
            ]
    return shown


def _deciding_score(examined: Examined, row: int) -> float:
    name = examined.decision.detectors[examined.decision.by[row]]
    return float(examined.scores[name].records[row])


def _scores(given: Dataset, examined: Examined) -> list[Markup]:
    """Every detector: all classes in one picture, then a histogram of each flagged class."""
    y, gone, names = labels(given), examined.decision.removed, given.manifest.content.classes
    shown = []
    for name, scores in examined.scores.items():
        values = scores.records
        groups = {
            names[label]: (values[(y == label) & ~gone], values[(y == label) & gone]) for label in np.unique(y).tolist()
        }
        overview = plots.spread(groups, title=f"{name} by class", names=("kept", "quarantined"), axis=name)
        shown += [html.heading(name), html.figure(overview, "Range, middle half and median of what was kept.")]
        for one in (one for one in examined.decision.classes if one.quarantined):
            of_class = {
                "kept": values[(y == one.label) & ~gone],
                "quarantined": values[(y == one.label) & gone],
                "trusted": scores.trusted[examined.trusted_labels == one.label],
            }
            title = f"{name} in class {names[one.label]}"
            shown.append(html.figure(plots.histogram(of_class, title=title, axis=name), title))
    return shown
