"""Plots put things where the numbers say, the same bytes every time, and never act on what a label says."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from assay.errors import UnfitInput
from assay.estimate import proportion
from assay.report import plots
from assay.report.pictures import data_uri, images
from assay.report.plots import Interval
from assay.report.svg import VARIABLES, axes, inline

HOSTILE = "$\\frac{$</text></svg><script>alert(1)</script>\"' onload=x &amp; \x00\x1b\u202egnp"


def vertices(svg: str, name: str) -> np.ndarray:
    """The points (n, 2) of the first path in the group with this name."""
    for element in ET.fromstring(svg).iter("g"):
        if element.attrib.get("id", "").endswith(f"-{name}"):
            path = next(part.attrib["d"] for part in element.iter() if "d" in part.attrib)
            return np.array(re.findall(r"[ML] (\S+) (\S+)", path), dtype=float)
    raise AssertionError(name)


def scale(svg: str, axis: str) -> tuple[float, float]:
    """Slope and offset from data to SVG units, fitted to the ticks and their labels."""
    ticks = []
    for group in ET.fromstring(svg).iter("g"):
        if re.fullmatch(rf".*-{axis}tick_\d+", group.attrib.get("id", "")):
            label = next((text.text for text in group.iter("text")), None)
            mark = next(part.attrib for part in group.iter("use"))
            if label:
                ticks.append(
                    (float(label.replace("−", "-").replace(",", "")), float(mark["x" if axis == "x" else "y"]))
                )
    data, place = np.array(ticks).T
    slope, offset = np.polyfit(data, place, 1)
    assert np.abs(slope * data + offset - place).max() < 1e-3
    return float(slope), float(offset)


shares = st.tuples(*[st.floats(0, 1)] * 3).map(sorted)


@settings(max_examples=15)
@given(rows=st.lists(st.tuples(shares, st.floats(-0.5, 1.5)), min_size=1, max_size=4))
def test_every_interval_and_bar_is_drawn_at_its_numbers(rows: list[tuple[list[float], float]]) -> None:
    given_rows = [
        Interval(label=f"row {at}", low=low, value=value, high=high, bar=bar, verdict="holds")
        for at, ((low, value, high), bar) in enumerate(rows)
    ]
    svg = plots.intervals(given_rows, title="t")
    slope, offset = scale(svg, "x")
    for at, ((low, _, high), bar) in enumerate(rows):
        ends = vertices(svg, f"interval-{at}")[:, 0]
        assert np.allclose(ends, [slope * low + offset, slope * high + offset], atol=2e-2)
        assert np.allclose(vertices(svg, f"bar-{at}")[:, 0], slope * bar + offset, atol=2e-2)


def test_the_histogram_draws_the_counts_that_numpy_counts() -> None:
    values = np.random.default_rng(0).normal(size=500)
    svg = plots.histogram({"a": values}, title="t", bins=10)
    slope, offset = scale(svg, "y")
    heights = (vertices(svg, "counts-0")[:, 1] - offset) / slope
    counts, edges = np.histogram(values, bins=10)
    assert np.allclose(heights[1:-1:2], counts, atol=0.05)
    slope, offset = scale(svg, "x")
    assert np.allclose((vertices(svg, "counts-0")[1:-1:2, 0] - offset) / slope, edges[:-1], atol=1e-2)


def test_values_that_are_not_finite_are_left_out_of_a_histogram_and_counted_nowhere() -> None:
    svg = plots.histogram({"a": [0.0, 1.0, float("nan"), float("inf")]}, title="t")
    assert "a (2)" in svg
    assert "nan" not in svg.lower()


def test_a_curve_passes_through_its_points() -> None:
    x, value = [0.0, 0.1, 0.2], [0.9, 0.6, 0.1]
    svg = plots.curve(x, [0.8, 0.5, 0.0], value, [1.0, 0.7, 0.2], title="t")
    for axis, data, column in (("x", x, 0), ("y", value, 1)):
        slope, offset = scale(svg, axis)
        assert np.allclose(vertices(svg, "curve")[:, column], slope * np.array(data) + offset, atol=2e-2)


def test_the_whole_story_is_in_words_too() -> None:
    row = Interval.of("clean_accuracy", proportion(90, 100), bar=0.8, verdict="holds")
    words = ET.fromstring(plots.intervals([row], title="Rules"))
    assert words.findtext("title") == "Rules"
    assert words.findtext("desc") == "clean_accuracy: 0.900, interval 0.824 to 0.951, needs at least 0.8, holds."
    labelled = words.attrib["aria-labelledby"].split()
    assert [element.tag for element in words.iter() if element.attrib.get("id") in labelled] == ["title", "desc"]


def every_plot(name: str) -> list[str]:
    values = np.linspace(0, 1, 50)
    return [
        plots.intervals([Interval(label=name, value=0.5, low=0.4, high=0.6, bar=0.5)], title=name, axis=name),
        plots.histogram({name: values}, cut=0.5, title=name, axis=name),
        plots.scatter(np.c_[values, values], [name] * 50, title=name, names=(name, name)),
        plots.bars({name: {name: 3}}, title=name, axis=name),
        plots.curve([0, 1], [0, 0], [0.5, 0.5], [1, 1], title=name, names=(name, name)),
        plots.spread({name: (values, values)}, title=name, names=(name, name), axis=name),
    ]


def test_a_hostile_label_stays_text() -> None:
    for svg in every_plot(HOSTILE):
        tags = {element.tag for element in ET.fromstring(svg).iter()}
        assert tags <= {
            "svg",
            "g",
            "path",
            "use",
            "defs",
            "text",
            "tspan",
            "title",
            "desc",
            "clipPath",
            "rect",
            "pattern",
        }
        assert "<script" not in svg
        assert "\x00" not in svg
        assert "\u202e" not in svg
        for element in ET.fromstring(svg).iter():
            assert not any(key.startswith("on") for key in element.attrib)


def test_equal_data_gives_equal_bytes_whatever_matplotlib_was_told() -> None:
    first = every_plot("a")
    with matplotlib.rc_context(
        {"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red", "xtick.major.size": 20}
    ):
        assert every_plot("a") == first
        assert matplotlib.rcParams["font.size"] == 30


def test_every_colour_follows_the_page() -> None:
    for svg in every_plot("a"):
        loose = set(re.findall(r"(?<![,\w] )(#[0-9a-f]{6})(?!\))", svg))
        assert not loose, loose
    assert len(set(VARIABLES.values())) == len(VARIABLES)


def test_nothing_to_draw_is_drawn_without_a_fault() -> None:
    plots.intervals([], title="t")
    plots.histogram({}, title="t")
    plots.histogram({"a": []}, title="t")
    plots.bars({}, title="t")
    plots.scatter(np.empty((0, 2)), [], title="t")
    plots.spread({"a": (np.empty(0), np.empty(0))}, title="t", names=("x", "y"))


def test_a_large_scatter_is_thinned_and_says_how_many_there_are() -> None:
    points = np.random.default_rng(0).normal(size=(20_000, 2))
    svg = plots.scatter(points, ["kept"] * 20_000, title="t")
    assert svg.count("<use") < plots.MAX_POINTS + 50
    assert "kept (20,000)" in svg


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (8, 8, 3)])
def test_a_picture_decodes_to_its_pixels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    decoded = Image.open(io.BytesIO(base64.b64decode(data_uri(pixels).partition(",")[2])))
    assert np.array_equal(np.asarray(decoded), pixels)
    assert data_uri(pixels) == data_uri((pixels / 255).astype(np.float64))


def test_a_large_picture_is_averaged_so_that_a_small_mark_still_shows() -> None:
    pixels = np.zeros((384, 384), np.uint8)
    pixels[1, 2] = 255
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(data_uri(pixels).partition(",")[2]))))
    assert decoded.shape == (96, 96)
    assert decoded[0, 0] == round(255 / 16)


def test_a_picture_of_wrong_shape_is_refused_and_titles_must_fit() -> None:
    for shape in [(4,), (4, 4, 2), (0, 4)]:
        with pytest.raises(UnfitInput, match="shape"):
            data_uri(np.zeros(shape))
    with pytest.raises(ValueError, match="zip"):
        images(np.zeros((2, 4, 4)), ["one"])
    assert images(np.zeros((30, 4, 4)), ["x"] * 30).count("<img") == 24
    assert "<b>" not in images(np.zeros((1, 4, 4)), ["<b>"])
    triples = images(np.zeros((7, 4, 4)), ["x"] * 7, together=3)
    assert [group.count("<img") for group in triples.split('<li class="group">')] == [0, 3, 3, 1]


def test_two_plots_on_one_page_share_no_id() -> None:
    ids = [re.findall(r'id="([^"]+)"', svg) for svg in every_plot("a")]
    flat = [one for each in ids for one in each]
    assert len(flat) == len(set(flat))


def test_a_plot_outside_its_block_still_needs_a_figure() -> None:
    with axes() as drawn:
        svg = inline(drawn, "t", "d")
    assert svg.startswith("<svg viewBox=")
