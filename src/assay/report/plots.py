"""Plots for pages, as inline SVG: estimates against bars, scores, counts, curves. See `assay.report.svg`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from assay.estimate import Estimate
from assay.report.pictures import images
from assay.report.svg import BAD, COLOURS, GOOD, INK, LINE, PAPER, SOFT, UNSURE, axes, inline
from assay.report.text import number, visible

Side = Literal["at_least", "at_most"]
VERDICT_COLOURS = {"holds": GOOD, "misses": BAD, "unclear": UNSURE, "not_measured": SOFT, "": COLOURS[0]}
MARKERS = ("o", "X", "s", "^", "D", "P")
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "xxx")
MAX_POINTS, MAX_CROSSES = 1_500, 200
MAX_LABEL = 44

__all__ = ["Interval", "Side", "bars", "curve", "histogram", "images", "intervals", "scatter", "spread"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """One row of `intervals`: an estimate, and the bar it is held to.

    Fields:
        label: name of the estimate.
        value, low, high: point and interval.
        bar: the threshold, or None.
        side: which side of the bar is wanted.
        verdict: ``holds``, ``misses``, ``unclear``, ``not_measured``, or empty; colours the row.
    """

    label: str
    value: float
    low: float
    high: float
    bar: float | None = None
    side: Side = "at_least"
    verdict: str = ""

    @classmethod
    def of(
        cls, label: str, estimate: Estimate, *, bar: float | None = None, side: Side = "at_least", verdict: str = ""
    ) -> Interval:
        """A row from an estimate."""
        ends = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
        return cls(label=label, bar=bar, side=side, verdict=verdict, **ends)


def intervals(rows: Sequence[Interval], *, title: str, axis: str = "share of records") -> Markup:
    """Each estimate as point and interval on one common axis, its bar as a tick, the wanted side shaded."""
    with axes(height=0.65 + 0.36 * max(len(rows), 1)) as drawn:
        low, high = _range(rows)
        for position, row in enumerate(rows):
            _interval(drawn, position, row, low, high)
        drawn.set(ylim=(max(len(rows), 1) - 0.5, -0.5), xlim=(low, high), xlabel=visible(axis))
        drawn.set_yticks(range(len(rows)), [_label(row.label) for row in rows], color=INK)
        drawn.tick_params(axis="y", length=0)
        drawn.spines["left"].set_visible(False)
        drawn.grid(axis="x")
        return inline(drawn, title, " ".join(_sentence(row) for row in rows))


def histogram(
    values: Mapping[str, Sequence[float] | npt.NDArray[Any]],
    *,
    title: str,
    axis: str = "score",
    cut: float | None = None,
    bins: int = 40,
) -> Markup:
    """Counts of values by name in common bins; a dashed line at the cut. Values that are not finite are left out."""
    finite = {name: array[np.isfinite(array)] for name, array in _arrays(values).items()}
    every = np.concatenate([*finite.values(), np.empty(0)])
    edges = np.histogram_bin_edges(every if len(every) else np.array([0.0, 1.0]), bins=bins)
    with axes() as drawn:
        for position, (name, array) in enumerate(finite.items()):
            counts = np.histogram(array, bins=edges)[0]
            colour, label = COLOURS[position % len(COLOURS)], _label(f"{visible(name)} ({len(array):,})")
            drawn.stairs(counts, edges, fill=True, alpha=0.28, color=colour)
            dashes = DASHES[position % len(DASHES)]
            drawn.stairs(counts, edges, linewidth=1.3, ls=dashes, color=colour, label=label, gid=f"counts-{position}")
        if cut is not None:
            drawn.axvline(cut, color=INK, linestyle=(0, (4, 3)), linewidth=1.2, label=f"cut at {number(cut)}")
        drawn.set(xlabel=visible(axis), ylabel="records", ylim=(0, None))
        _counts_axis(drawn, "y")
        _legend(drawn)
        said = [f"{name}: {len(array)} records, {_span(array)}." for name, array in finite.items()]
        return inline(drawn, title, " ".join([*said, *([f"Cut at {number(cut)}."] if cut is not None else [])]))


def spread(
    groups: Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]],
    *,
    title: str,
    names: tuple[str, str],
    axis: str = "score",
) -> Markup:
    """One row a group: range and middle half of the first values, a cross for each of the second.

    Args:
        groups: per name, values to summarise and values to show one by one; what is not finite is left out.
        title: what it shows.
        names: of the two kinds of values.
        axis: what the values are.
    """
    said = []
    with axes(height=0.95 + 0.27 * max(len(groups), 1)) as drawn:
        for position, (name, (usual, odd)) in enumerate(groups.items()):
            usual, odd = usual[np.isfinite(usual)], odd[np.isfinite(odd)]
            said.append(f"{name}: {names[0]} {_span(usual)}, {names[1]} {_span(odd)} ({len(odd)}).")
            if len(usual):
                low, first, middle, third, high = np.quantile(usual, [0, 0.25, 0.5, 0.75, 1])
                drawn.hlines(position, low, high, color=COLOURS[0], linewidth=1.2)
                drawn.hlines(position, first, third, color=COLOURS[0], linewidth=6, alpha=0.55)
                drawn.vlines(middle, position - 0.25, position + 0.25, color=COLOURS[0], linewidth=1.6)
            shown = np.sort(odd)[np.linspace(0, len(odd) - 1, min(len(odd), MAX_CROSSES)).astype(int)]
            drawn.plot(shown, np.full(len(shown), position), "x", color=COLOURS[1], markersize=5, alpha=0.8)
        drawn.plot([], [], color=COLOURS[0], linewidth=4, alpha=0.55, label=visible(names[0]))
        drawn.plot([], [], "x", color=COLOURS[1], markersize=5, label=visible(names[1]))
        drawn.set(ylim=(max(len(groups), 1) - 0.5, -0.5), xlabel=visible(axis))
        drawn.set_yticks(range(len(groups)), [_label(name) for name in groups], color=INK)
        drawn.tick_params(axis="y", length=0)
        drawn.grid(axis="x")
        _legend(drawn)
        return inline(drawn, title, " ".join(said))


def scatter(
    points: npt.NDArray[Any], groups: Sequence[str], *, title: str, names: tuple[str, str] = ("first", "second")
) -> Markup:
    """Points in the plane, one colour and marker a group; of a large group an even selection is drawn.

    Args:
        points: (N, 2); rows that are not finite are left out.
        groups: N names.
        title: what it shows.
        names: of the two axes.
    """
    which = np.asarray(groups, dtype=object)
    finite = np.isfinite(np.asarray(points, dtype=np.float64)).all(axis=1)
    with axes(height=4.2) as drawn:
        for position, name in enumerate(dict.fromkeys(groups)):
            rows = np.flatnonzero((which == name) & finite)
            shown = rows if len(rows) <= MAX_POINTS else rows[np.linspace(0, len(rows) - 1, MAX_POINTS).astype(int)]
            drawn.scatter(
                points[shown, 0],
                points[shown, 1],
                s=16,
                color=COLOURS[position % len(COLOURS)],
                marker=MARKERS[position % len(MARKERS)],
                alpha=0.75,
                linewidths=0,
                label=_label(f"{visible(name)} ({len(rows):,})"),
            )
        drawn.set(xlabel=visible(names[0]), ylabel=visible(names[1]))
        _legend(drawn)
        return inline(drawn, title, f"{len(points)} points in {len(set(groups))} groups.")


def bars(counts: Mapping[str, Mapping[str, int]], *, title: str, axis: str = "records") -> Markup:
    """One horizontal bar a name, stacked by kind, such as kept and quarantined by source."""
    kinds = list(dict.fromkeys(kind for parts in counts.values() for kind in parts))
    with axes(height=0.95 + 0.34 * max(len(counts), 1)) as drawn:
        start = np.zeros(len(counts))
        for position, kind in enumerate(kinds):
            width = np.array([parts.get(kind, 0) for parts in counts.values()])
            colour, hatch = COLOURS[position % len(COLOURS)], HATCHES[position % len(HATCHES)]
            places = range(len(counts))
            drawn.barh(
                places, width, left=start, height=0.62, label=_label(kind), color=colour, edgecolor=PAPER, hatch=hatch
            )
            start += width
        for position, total in enumerate(start):
            drawn.annotate(number(int(total)), (total, position), (4, 0), textcoords="offset points", va="center")
        drawn.set(
            xlabel=visible(axis), ylim=(max(len(counts), 1) - 0.5, -0.5), xlim=(0, max(start.max(initial=0) * 1.08, 1))
        )
        drawn.set_yticks(range(len(counts)), [_label(name) for name in counts], color=INK)
        drawn.tick_params(axis="y", length=0)
        _counts_axis(drawn, "x")
        _legend(drawn)
        said = [f"{name}: {', '.join(f'{n} {kind}' for kind, n in parts.items())}." for name, parts in counts.items()]
        return inline(drawn, title, " ".join(said))


def curve(
    x: Sequence[float],
    low: Sequence[float],
    value: Sequence[float],
    high: Sequence[float],
    *,
    title: str,
    names: tuple[str, str] = ("x", "share of records"),
) -> Markup:
    """A measured curve with its band, such as robust accuracy against the radius."""
    with axes() as drawn:
        drawn.fill_between(x, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
        drawn.plot(x, value, color=COLOURS[0], marker="o", markersize=4, linewidth=1.5, gid="curve")
        drawn.set(xlabel=visible(names[0]), ylabel=visible(names[1]))
        drawn.grid(axis="y")
        points = zip(x, value, low, high, strict=True)
        return inline(drawn, title, " ".join(f"At {a:.4g}: {b:.3f} [{c:.3f}, {d:.3f}]." for a, b, c, d in points))


def _interval(drawn: Axes, position: int, row: Interval, low: float, high: float) -> None:
    colour = VERDICT_COLOURS.get(row.verdict, COLOURS[0])
    if row.bar is not None:
        start, end = (row.bar, high) if row.side == "at_least" else (low, row.bar)
        drawn.barh(position, end - start, left=start, height=0.62, color=LINE, alpha=0.55)
        drawn.vlines(row.bar, position - 0.36, position + 0.36, color=INK, linewidth=1.6, gid=f"bar-{position}")
    dashed = ":" if row.verdict == "not_measured" else "-"
    drawn.hlines(position, row.low, row.high, color=colour, linewidth=3, ls=dashed, gid=f"interval-{position}")
    if row.verdict != "not_measured":
        drawn.plot([row.value], [position], marker="o", color=colour, markersize=6, gid=f"value-{position}")


def _range(rows: Sequence[Interval]) -> tuple[float, float]:
    """[0, 1] for shares; wider, with a margin, where a difference or another quantity leaves it."""
    ends = [end for row in rows for end in (row.low, row.high, row.bar) if end is not None]
    low, high = min([0.0, *ends]), max([1.0, *ends])
    margin = 0.02 * (high - low)
    return low - margin, high + margin


def _sentence(row: Interval) -> str:
    said = f"{row.label}: {row.value:.3f}, interval {row.low:.3f} to {row.high:.3f}"
    if row.bar is not None:
        said += f", needs {row.side.replace('_', ' ')} {row.bar:g}"
    return f"{said}, {row.verdict.replace('_', ' ')}." if row.verdict else f"{said}."


def _arrays(values: Mapping[str, Sequence[float] | npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float64]]:
    return {name: np.asarray(array, dtype=np.float64) for name, array in values.items()}


def _span(array: npt.NDArray[np.float64]) -> str:
    return f"{array.min():.4g} to {array.max():.4g}" if len(array) else "none"


def _label(text: object) -> str:
    shown = visible(text)
    return shown if len(shown) <= MAX_LABEL else f"{shown[: MAX_LABEL - 1]}…"


def _legend(drawn: Axes) -> None:
    handles, names = drawn.get_legend_handles_labels()
    if handles:
        columns = math.ceil(len(handles) / 2) if len(handles) > 4 else len(handles)
        # matplotlib leaves names that begin with an underscore out of a legend unless they are given
        drawn.get_figure(root=True).legend(handles, names, loc="outside upper left", ncols=columns)  # type: ignore[union-attr]


def _counts_axis(drawn: Axes, which: Literal["x", "y"]) -> None:
    axis = drawn.xaxis if which == "x" else drawn.yaxis
    axis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axis.set_major_formatter(lambda value, _: number(int(value)))
    drawn.grid(axis=which)
