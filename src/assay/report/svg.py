"""Inline SVG from matplotlib: the same bytes every time, colours that follow the page, text that stays text.

Only the object interface is used (no pyplot, no state). What matplotlib writes is read back as XML and made fit for a
page: colours become the page's CSS variables (so a dark page has a dark plot), ids are made unique, sizes and
metadata go, a title and a description for screen readers come.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from assay import canonical
from assay.report.text import visible

INK, SOFT, LINE, PAPER = "#1c2430", "#566173", "#d8dde5", "#fefefe"
GOOD, BAD, UNSURE = "#00735a", "#b23a0e", "#7a5a00"
# Okabe and Ito's palette, told apart by people with any common colour vision
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    LINE: "--line",
    PAPER: "--paper",
    GOOD: "--good",
    BAD: "--bad",
    UNSURE: "--unsure",
    **{colour: f"--c{position}" for position, colour in enumerate(COLOURS)},
}
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "assay",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "hatch.linewidth": 0.8,
    "path.simplify": False,
}
_REFERENCE = re.compile(r"#(?=[A-Za-z_])")
_COLOUR = re.compile(r"#[0-9a-f]{6}")

__all__ = ["BAD", "COLOURS", "GOOD", "INK", "LINE", "PAPER", "SOFT", "UNSURE", "axes", "inline"]


@contextmanager
def axes(width: float = 10.0, height: float = 2.9) -> Iterator[Axes]:
    """Axes of a new figure in assay's style; draw and call `inline` inside the block.

    Args:
        width: in inches; only its ratio to the height counts, for a plot takes the width of its column.
        height: in inches.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever a matplotlibrc says
        parameters: Any = matplotlib.rcParams
        parameters.update(STYLE)
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.add_subplot()


def inline(drawn: Axes, title: str, description: str) -> Markup:
    """The figure of the axes as an SVG element for a page.

    Args:
        drawn: from `axes`.
        title: what it shows, for screen readers and as tool tip.
        description: the finding in words, for those who cannot see it.
    """
    figure = drawn.get_figure(root=True)
    if figure is None:
        raise ValueError("axes without a figure")
    sink = io.BytesIO()
    canvas: Any = FigureCanvasSVG(figure)
    with warnings.catch_warnings():  # the browser, not matplotlib's font, draws the text
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        canvas.print_svg(sink, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Markup(_embed(sink.getvalue(), visible(title), visible(description)))


def _embed(data: bytes, title: str, description: str) -> str:
    root = ET.fromstring(data)
    prefix = "s" + canonical.sha256(data + title.encode())[:8]
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
        element.attrib = {
            name.rpartition("}")[2]: _attribute(name.rpartition("}")[2], value, prefix)
            for name, value in element.attrib.items()
        }
        element.tail = None
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in ("metadata", "style")]:
            parent.remove(child)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{prefix}-title {prefix}-desc",
        "style": "stroke-linejoin: round; stroke-linecap: butt",  # a style element would reach the whole page
    }
    for position, (name, text) in enumerate((("title", title), ("desc", description))):
        label = ET.Element(name, {"id": f"{prefix}-{name}"})
        label.text = text
        root.insert(position, label)
    return ET.tostring(root, encoding="unicode")


def _attribute(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href" or "url(#" in value:
        value = _REFERENCE.sub(f"#{prefix}-", value) if name == "href" else value.replace("url(#", f"url(#{prefix}-")
    if name in ("style", "fill", "stroke"):
        return _COLOUR.sub(lambda found: _variable(found[0]), value)
    return value


def _variable(colour: str) -> str:
    name = VARIABLES.get(colour)
    return f"var({name}, {colour})" if name else colour
