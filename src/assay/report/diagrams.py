"""Plots of what is measured beside robustness: reliability, heat maps, several curves on the same axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from assay.estimate import Estimate
from assay.report.svg import COLOURS, INK, PAPER, axes, inline
from assay.report.text import visible

MARKERS = ("o", "s", "^", "D", "X", "P")

__all__ = ["curves", "heat_map", "reliability"]


def reliability(stated: Sequence[float], shares: Sequence[Estimate], *, title: str) -> Markup:
    """What came true over what was stated, with its interval; the diagonal is what was promised."""
    with axes(width=6.0, height=4.0) as drawn:
        drawn.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)))
        for at, each in zip(stated, shares, strict=True):
            drawn.vlines(at, each.low, each.high, color=COLOURS[0], linewidth=2)
        drawn.plot(stated, [each.value for each in shares], color=COLOURS[0], marker="o", linestyle="", gid="bins")
        drawn.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), xlabel="stated certainty", ylabel="share right")
        drawn.grid()
        pairs = zip(stated, shares, strict=True)
        said = (f"Stated {at:.3f}: {it.value:.3f} [{it.low:.3f}, {it.high:.3f}] of {it.n}." for at, it in pairs)
        return inline(drawn, title, " ".join(said))


def heat_map(
    rows: Sequence[str], columns: Sequence[str], values: npt.NDArray[np.float64], *, title: str, axis: str
) -> Markup:
    """Shares in [0, 1] by row and column, dark where they are low, each written into its cell."""
    shades = LinearSegmentedColormap.from_list("shades", [COLOURS[0], PAPER])
    with axes(height=0.9 + 0.3 * len(rows)) as drawn:
        for row, column in np.ndindex(values.shape):
            share = float(values[row, column])
            red, green, blue, _ = shades(share)
            corner = (column - 0.5, row - 0.5)
            drawn.add_patch(Rectangle(corner, 1, 1, facecolor=(red, green, blue), edgecolor=PAPER))
            ink = PAPER if share < 0.5 else INK
            drawn.annotate(f"{share:.2f}", (column, row), ha="center", va="center", color=ink)
        drawn.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5), xlabel=visible(axis))
        drawn.set_xticks(range(len(columns)), [visible(name) for name in columns], color=INK)
        drawn.set_yticks(range(len(rows)), [visible(name) for name in rows], color=INK)
        drawn.tick_params(length=0)
        told = (
            f"{name}: {', '.join(f'{share:.3f}' for share in line)}." for name, line in zip(rows, values, strict=True)
        )
        return inline(drawn, title, " ".join(told))


def curves(
    points: Mapping[str, Sequence[tuple[float, Estimate]]], *, title: str, names: tuple[str, str] = ("x", "share")
) -> Markup:
    """Several measured curves with their bands."""
    with axes() as drawn:
        for position, (name, line) in enumerate(points.items()):
            colour, x = COLOURS[position % len(COLOURS)], [at for at, _ in line]
            ends = ([each.low for _, each in line], [each.high for _, each in line])
            drawn.fill_between(x, *ends, color=colour, alpha=0.2, linewidth=0)
            value = [each.value for _, each in line]
            marker = MARKERS[position % len(MARKERS)]
            drawn.plot(x, value, color=colour, marker=marker, markersize=4, linewidth=1.5, label=visible(name))
        drawn.set(xlabel=visible(names[0]), ylabel=visible(names[1]))
        drawn.grid(axis="y")
        if len(points) > 1:
            drawn.legend()
        told = (
            f"{name}: " + " ".join(f"at {at:.4g}: {it.value:.3f} [{it.low:.3f}, {it.high:.3f}]." for at, it in line)
            for name, line in points.items()
        )
        return inline(drawn, title, " ".join(told))
