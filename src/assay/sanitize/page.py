"""The report of sanitize: what left by source and reason, every expectation, and records to look at."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from markupsafe import Markup

from assay.config.sanitize import SanitizeConfig
from assay.data.dataset import Dataset
from assay.data.findings import REMOVING, Split
from assay.report import html, plots
from assay.sanitize.caps import Removal
from assay.sanitize.checks import FORMULA, constant_columns
from assay.sanitize.detect import Detection
from assay.sanitize.expectations import Outcome
from assay.sanitize.scalars import STATISTICS, frame

EXAMPLES = 8
COLUMNS = 8
HISTOGRAMS = 12

__all__ = ["page_of"]


def page_of(
    given: Dataset,
    parts: Split,
    outcomes: list[Outcome],
    groups: list[Removal],
    config: SanitizeConfig,
    detections: Sequence[Detection] = (),
    docs: str = "",
) -> str:
    """The whole page, self-contained.

    Args:
        given: the input.
        parts: what became of it.
        outcomes: of the expectations.
        groups: removals of sources and classes.
        config: of the step, with the cap.
        detections: of the detectors.
        docs: relative address of Great Expectations' own page, or empty.
    """
    removed = parts.kept.manifest.history.removed
    return html.page(
        "Sanitize",
        _answer(parts, [group for group in groups if not group.share <= config.removal_cap]),
        html.section("By source and reason", *_reasons(removed)),
        html.section("By batch", _batches(given, parts), lead="What became of the records of every batch."),
        html.section(
            "Share removed",
            html.table(
                ["group", "name", "removed", "records", "share"],
                [[it.kind, it.name, it.removed, it.records, it.share] for it in groups],
            ),
            lead=f"More than a share of {config.removal_cap} of one source or class needs review.",
        ),
        html.section("Expectations", _expectations(outcomes), *_linked(docs)),
        html.section("Detectors", *_detectors(detections)),
        html.section("Examples", *_examples(given, parts), lead="The first records of each reason."),
        html.section("Features", *_features(given, parts, outcomes), lead="Those that failed an expectation first."),
        lead=_lead(given),
    )


def _lead(given: Dataset) -> str:
    records = given.manifest.content.records
    said = f"{records} records of dataset {given.manifest.digest[:12]}."
    return said if len(given) == records else f"{said} Flags, examples and features are of the first {len(given)}."


def _answer(parts: Split, above: list[Removal]) -> Markup:
    kept, left = (part.manifest.content.records for part in (parts.kept, parts.quarantined))
    counts = f"{kept} kept, {left} quarantined."
    if above:
        names = ", ".join(f"{group.kind} {group.name}" for group in above)
        text = f"Nothing was removed: above the cap in {names}. It would be {counts}"
        return html.banner("needs review", text, "unsure")
    return html.banner("divided", counts, "good")


def _reasons(removed: Mapping[str, Mapping[str, int]]) -> list[Markup]:
    rows = [[source, reason, count] for source, counts in removed.items() for reason, count in counts.items()]
    table = html.table(["source", "reason", "records"], rows, caption="A record counts once, under its worst finding.")
    return [table, html.figure(plots.bars(removed, title="Records removed by source"))] if rows else [table]


def _batches(given: Dataset, parts: Split) -> Markup:
    """Records that left, were flagged and were downweighted, by batch, with the reasons; worst first."""
    said: dict[str, dict[str, set[str]]] = {}
    for finding in parts.findings:
        batch = finding.record_id.rpartition(":")[0]
        said.setdefault(batch, {}).setdefault(finding.action, set()).add(finding.record_id)
        said[batch].setdefault("why", set()).add(finding.reason)
    left = {(share.source, share.batch): share.records for share in parts.quarantined.manifest.history.sources}
    rows: list[list[Any]] = []
    for share in given.manifest.history.sources:
        of = said.get(f"{share.source}/{share.batch}", {})
        counts = [left.get((share.source, share.batch), 0), *(len(of.get(it, ())) for it in ("flag", "downweight"))]
        rows.append([f"{share.source}/{share.batch}", share.records, *counts, ", ".join(sorted(of.get("why", ())))])
    rows.sort(key=lambda row: -row[2])
    return html.table(["batch", "records", "left", "flagged", "downweighted", "reasons"], rows)


def _expectations(outcomes: list[Outcome]) -> Markup:
    rows = [
        [it.type, json.dumps(it.kwargs, ensure_ascii=False), it.evaluated or "whole table", len(it.failing)]
        for it in outcomes
    ]
    return html.table(["expectation", "settings", "evaluated", "failing"], rows)


def _linked(docs: str) -> list[Markup]:
    """A link to the page beside this one."""
    address = Markup('<p><a href="{}">Great Expectations\u2019 own page about this suite</a></p>')
    return [address.format(f"./{quote(docs)}")] if docs else []


def _detectors(detections: Sequence[Detection]) -> list[Markup]:
    """Every detector with its stated rate, and the distribution of its scores where it found anything."""
    rows = [
        [it.name, it.on, "not known" if it.rate is None else it.rate, it.calibration, len(it.scores), len(it.findings)]
        for it in detections
    ]
    columns = ["detector", "on", "share of clean records, at most", "trusted records", "records", "suspicious"]
    shown = [html.figure(_scores(it), f"{it.name} on {it.on}: cut at {it.cut:.4g}") for it in detections if it.findings]
    return [html.table(columns, rows), *shown] if rows else [html.missing("Detectors", "none configured")]


def _scores(it: Detection) -> Markup:
    """Scores on a scale that shows both the many and the few."""
    ranked = {"below the cut": it.scores[it.scores <= it.cut], "above": it.scores[it.scores > it.cut]}
    values = {kind: np.sign(part) * np.log1p(np.abs(part)) for kind, part in ranked.items()}
    return plots.histogram(values, title=f"{it.name}: cut at {it.cut:.4g}", axis="sign(score) log(1 + |score|)")


def _examples(given: Dataset, parts: Split) -> list[Markup]:
    """The first records of every reason: as pictures where they are images, else as a table of cells."""
    by_reason: dict[str, list[str]] = {}
    for finding in parts.findings:
        if finding.action in (*REMOVING, "flag", "downweight"):
            by_reason.setdefault(finding.reason, []).append(finding.record_id)
    place = {name: row for row, name in enumerate(given.record_ids)}
    shown = []
    for reason, names in sorted(by_reason.items()):
        chosen = sorted(names, key=place.__getitem__)[:EXAMPLES]
        table = given.table.take(pa.array([place[name] for name in chosen]))
        pictures = _pictures(table, given.feature_names)
        body = plots.images(pictures, chosen) if pictures is not None else _cells(table, given, chosen)
        shown.append(html.figure(body, f"{reason}: {len(names)}"))
    return shown or [html.paragraph("No record left.")]


def _cells(table: pa.Table, given: Dataset, names: list[str]) -> Markup:
    columns = [name for name in given.feature_names if not isinstance(table[name].type, pa.FixedShapeTensorType)]
    values = [[_plain(cell) for cell in table[name].to_pylist()] for name in columns[:COLUMNS]]
    labels = [given.manifest.content.classes[label] for label in table["label"].to_pylist()]
    return html.table(["record", "label", *columns[:COLUMNS]], list(zip(names, labels, *values, strict=True)))


def _plain(cell: Any) -> Any:
    """A cell as it is; a text that a spreadsheet would run, were the table pasted there, behind a quote."""
    return f"'{cell}" if isinstance(cell, str) and re.match(FORMULA, cell) else cell


def _pictures(table: pa.Table, names: list[str]) -> npt.NDArray[np.float64] | None:
    """The first image column as (N, H, W) or (N, H, W, 3) in [0, 1]; None where there is none."""
    tensors = [name for name in names if isinstance(table[name].type, pa.FixedShapeTensorType)]
    if not tensors:
        return None
    raw = np.concatenate([chunk.to_numpy_ndarray() for chunk in table[tensors[0]].chunks])
    pixels = _in_unit(raw)
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3):
        pixels = pixels.transpose(0, 2, 3, 1)
    if pixels.ndim == 4 and pixels.shape[3] == 1:
        pixels = pixels[..., 0]
    return pixels if pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[3] == 3) else None


def _in_unit(raw: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Pixels in [0, 1]; those of another range are stretched, what is not finite becomes the least of them."""
    if raw.dtype == np.uint8:
        return raw.astype(np.float64) / 255
    finite = raw[np.isfinite(raw)].astype(np.float64)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    pixels = np.nan_to_num(raw.astype(np.float64), nan=low, posinf=high, neginf=low)
    return (pixels - low) / max(high - low, 1e-12)


def _features(given: Dataset, parts: Split, outcomes: list[Outcome]) -> list[Markup]:
    constant = constant_columns(given)
    said = f"One value only, so nothing can be learnt from them: {', '.join(constant)}."
    notes = [html.paragraph(said)] if constant else []
    failing = [str(it.kwargs["column"]) for it in outcomes if it.failing and "column" in it.kwargs]
    numeric = [name for name in given.feature_names if _numeric(given.table[name])]
    first = [name for name in dict.fromkeys(failing) if name in numeric]
    shown = [
        _histogram(name, *(_values(part.table[name]) for part in (parts.kept, parts.quarantined)))
        for name in [*first, *(name for name in numeric if name not in first)][:HISTOGRAMS]
    ]
    images = [name for name in given.feature_names if isinstance(given.table[name].type, pa.FixedShapeTensorType)]
    of_images = [f"{name}.{statistic}" for name in images for statistic in STATISTICS]
    shown = [*_statistics([name for name in dict.fromkeys(failing) if name in of_images], parts), *shown]
    return [*notes, *(shown or [html.missing("Histograms", "no numeric feature")])]


def _statistics(names: list[str], parts: Split) -> list[Markup]:
    """Of the statistics of images that an expectation was about, such as ``image.mean``."""
    if not names:
        return []
    frames = [frame(part, np.ones(len(part), np.bool_)) for part in (parts.kept, parts.quarantined)]
    return [_histogram(name, *(part[name].to_numpy(np.float64) for part in frames)) for name in names]


def _histogram(name: str, kept: npt.NDArray[np.float64], left: npt.NDArray[np.float64]) -> Markup:
    return html.figure(plots.histogram({"kept": kept, "left": left}, title=name, axis=name))


def _values(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _numeric(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_integer(column.type) or pa.types.is_floating(column.type))
