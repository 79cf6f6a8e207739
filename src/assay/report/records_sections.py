"""Sections about records: what was kept, what was quarantined and why, and what the poison filter saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from assay.data import records
from assay.data.findings import REMOVING, Finding
from assay.report import html, plots
from assay.report.custody import accounted
from assay.report.facts import Facts, Part

STEPS = (
    ("ingest", "dataset", "ingest_quarantine"),
    ("sanitize", "kept", "sanitize_quarantine"),
    ("poison filter", "filtered", "filter_quarantine"),
)
MAX_DETECTORS, MAX_SUSPECTS = 6, 8

__all__ = ["filter_section", "records_section", "removed_counts"]

Floats = npt.NDArray[np.float64]


def records_section(facts: Facts) -> Markup:
    """How many records of each source were kept, and how many each step quarantined for which reason."""
    last = next((part.value for part in (facts.filtered, facts.kept, facts.dataset) if part.value), None)
    if last is None:
        return html.section("Records", html.missing("Records", facts.dataset.why), anchor="records")
    removed = removed_counts(facts)
    kept: Counter[str] = Counter()
    for share in last.manifest.history.sources:
        kept[share.source] += share.records
    sources = sorted({*kept, *(source for source, *_ in removed)})
    lost = Counter(dict.fromkeys(sources, 0))
    for (source, _, _), count in removed.items():
        lost[source] += count
    counts = {source: {"kept": kept[source], "quarantined": lost[source]} for source in sources}
    rows = [(*key, count, _share(count, kept[key[0]] + lost[key[0]])) for key, count in sorted(removed.items())]
    return html.section(
        "Records",
        html.figure(
            plots.bars(counts, title="Records kept and quarantined by source"),
            "What was kept is what the model learned from.",
        ),
        html.table(
            ["source", "kept", "quarantined", "share quarantined"],
            [(name, kept[name], lost[name], _share(lost[name], kept[name] + lost[name])) for name in sources],
        ),
        html.table(["source", "step", "reason", "records", "share of source"], rows, caption="Why records left."),
        _accounting(facts),
        lead="Nothing is deleted: what a step takes out goes to its quarantine, from which it can be released.",
        anchor="records",
    )


def removed_counts(facts: Facts) -> dict[tuple[str, str, str], int]:
    """Records removed by source, step and reason, as the manifests say."""
    counts: dict[tuple[str, str, str], int] = {}
    for step, name, _ in STEPS:
        part: Part | None = getattr(facts, name).value
        for source, reasons in (part.manifest.history.removed if part else {}).items():
            counts |= {(source, step, reason): count for reason, count in reasons.items()}
    return counts


def filter_section(facts: Facts) -> Markup:
    """Scores of every detector per class, the suspects, and their pictures beside clean ones."""
    part = facts.filter_quarantine.value
    if part is None:
        return html.section("Poison filter", html.missing("Poison", facts.filter_quarantine.why), anchor="filter")
    classes = part.manifest.content.classes
    speaking, silent = _scores(facts, part, classes)
    return html.section(
        "Poison filter",
        *speaking,
        _suspects(part, classes),
        *_gallery(facts, part, classes),
        *([html.details("Detectors that took nothing out", *silent)] if silent else []),
        lead=_found(part),
        anchor="filter",
    )


def _found(part: Part) -> str:
    if not part.manifest.content.records:
        return "No record was suspicious enough to be taken out."
    by_source = Counter({f"{share.source}/{share.batch}": share.records for share in part.manifest.history.sources})
    told = ", ".join(f"{count} from {name}" for name, count in by_source.most_common(5))
    return f"{part.manifest.content.records} records were taken out before training: {told}."


def _scores(facts: Facts, part: Part, classes: Sequence[str]) -> tuple[list[Markup], list[Markup]]:
    """Plots of the detectors that took records out, and of those that did not."""
    table = facts.scores.value
    if table is None:
        return [html.missing("Scores", facts.scores.why)], []
    labels, removed = _labels(facts, table), _removed(part, table)
    speaking = {finding.detector for finding in part.findings if finding.action in REMOVING}
    spoke: list[Markup] = []
    silent: list[Markup] = []
    for name in _detectors(table)[:MAX_DETECTORS]:
        score = table[name].to_numpy().astype(np.float64)
        figures = spoke if name in speaking else silent
        figures.append(_by_class(name, score, labels, removed, classes))
        if name in speaking and part.samples.labels:
            figures.append(_most_hit(name, score, labels, removed, part.samples.labels[0], classes))
    return spoke, silent


def _by_class(
    name: str, score: Floats, labels: npt.NDArray[np.int64], removed: npt.NDArray[np.bool_], classes: Sequence[str]
) -> Markup:
    spread = {
        _class(classes, label): (score[(labels == label) & ~removed], score[(labels == label) & removed])
        for label in sorted(set(labels.tolist()))
    }
    plot = plots.spread(
        spread, title=f"Scores by {name}, per class", names=("kept", "quarantined"), axis=f"{name}: score"
    )
    return html.figure(
        plot, f"{name}, by class: line, block and tick are range, middle half and median of what was kept."
    )


def _most_hit(
    name: str,
    score: Floats,
    labels: npt.NDArray[np.int64],
    removed: npt.NDArray[np.bool_],
    label: int,
    classes: Sequence[str],
) -> Markup:
    about = f"{name} in class {_class(classes, label)}"
    values = {"kept": score[(labels == label) & ~removed], "quarantined": score[(labels == label) & removed]}
    return html.figure(
        plots.histogram(values, title=f"Scores by {about}", axis=f"{name}: score"), f"{about}, which lost most."
    )


def _suspects(part: Part, classes: Sequence[str]) -> Markup:
    said = [finding for finding in part.findings if finding.action in REMOVING]
    label = dict(zip(records.record_ids(part.keys), part.keys["label"].to_pylist(), strict=True))
    worst: dict[str, Finding] = {}
    for finding in sorted(said, key=lambda finding: finding.score):
        worst[finding.record_id] = finding
    ordered = sorted(worst.values(), key=lambda finding: (-finding.score, finding.record_id))
    rows = [
        (
            finding.record_id,
            _class(classes, label[finding.record_id]) if finding.record_id in label else None,
            finding.detector,
            finding.reason,
            finding.score,
        )
        for finding in ordered
    ]
    return html.table(
        ["record", "labelled as", "detector", "reason", "score"],
        rows,
        caption="Most suspicious first.",
        limit=MAX_SUSPECTS,
    )


def _gallery(facts: Facts, part: Part, classes: Sequence[str]) -> list[Markup]:
    clean = facts.filtered.value.samples if facts.filtered.value else None
    shown = []
    for label, pictures in part.samples.pictures.items():
        name = _class(classes, label)
        shown.append(html.heading(f"Labelled as {name}: quarantined"))
        shown.append(plots.images(pictures, part.samples.names[label]))
        if clean is not None and len(clean.pictures.get(label, ())):
            shown.append(html.heading(f"Labelled as {name}: kept"))
            shown.append(plots.images(clean.pictures[label], clean.names[label]))
    return shown


def _accounting(facts: Facts) -> Markup:
    rows = []
    for before, (step, after, removed) in zip(("", "dataset", "kept"), STEPS, strict=True):
        if before:
            verdict = accounted(getattr(facts, before), getattr(facts, after), getattr(facts, removed))
            rows.append((step, html.badge(verdict)))
    return html.table(["step", "kept and quarantined records are the input"], rows)


def _labels(facts: Facts, table: pa.Table) -> npt.NDArray[np.int64]:
    """(N,) label of every scored record, -1 where it is not known."""
    known = facts.kept.value or facts.filtered.value
    if known is None:
        return np.full(table.num_rows, -1, dtype=np.int64)
    ids = pa.array(records.record_ids(known.keys), pa.string())
    places = pc.index_in(table["record_id"].cast(pa.string()), value_set=ids)
    label = pc.take(known.keys["label"], places)
    return np.asarray(pc.fill_null(label, -1).to_numpy(), dtype=np.int64)


def _removed(part: Part, table: pa.Table) -> npt.NDArray[np.bool_]:
    ids = pa.array(records.record_ids(part.keys), pa.string())
    return np.asarray(pc.is_in(table["record_id"].cast(pa.string()), value_set=ids).to_numpy(), dtype=np.bool_)


def _detectors(table: pa.Table) -> list[str]:
    return [field.name for field in table.schema if pa.types.is_floating(field.type)]


def _class(classes: Sequence[str], label: int) -> str:
    if label < 0:
        return "class not known"
    return classes[label] if label < len(classes) else str(label)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"
