"""Text on a page shows what it is, whoever wrote it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup, escape

from assay.estimate import proportion
from assay.report import html
from assay.report.text import INVISIBLE, MAX_TEXT, cell, estimate, number, plain, visible

anything = st.text(st.characters(categories=None), max_size=200)  # every code point, lone surrogates too


@given(anything)
def test_no_invisible_character_reaches_a_page(text: str) -> None:
    shown = visible(text)
    assert not {unicodedata.category(character) for character in shown} & INVISIBLE
    shown.encode("utf-8")


@given(st.sampled_from(["=", "+", "-", "@", "|", "%", " =", "\t=", "\n@"]), anything)
def test_no_cell_begins_as_a_formula(start: str, rest: str) -> None:
    assert plain(start + rest)[0] == "'"


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=200))
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert visible(text) == text


def test_text_that_floods_is_cut_and_says_so() -> None:
    shown = plain("x" * 10**6)
    assert len(shown) < MAX_TEXT + 40
    assert shown.endswith("(1000000 characters)")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (True, "yes"),
        (1797, "1,797"),
        (-2.5, "−2.5"),
        (0.123456, "0.1235"),
        (float("nan"), "nan"),
        ("a", "a"),
        (Markup("<b>"), "<b>"),
        (proportion(0, 0), '<span class="estimate">not measured</span>'),
        (proportion(9, 10), '<span class="estimate">0.900 [0.555, 0.997]</span>'),
    ],
)
def test_a_cell_shows_each_kind_of_value(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_a_number_about_a_model_never_stands_without_its_interval() -> None:
    assert estimate(proportion(0, 10)) == "0.000 [0.000, 0.308]"
    assert number(-1234) == "−1,234"


def test_a_table_counts_what_it_does_not_show_and_aligns_numbers() -> None:
    page = html.table(["name", "n"], (("a", at) for at in range(5)), limit=2)
    assert page.count("<tr>") == 4
    assert "and 3 more rows" in page
    assert '<th scope="col" class="n">n</th>' in page
    assert "none" in html.table(["name"], [])


@given(anything)
def test_whatever_is_put_on_a_page_comes_out_escaped(text: str) -> None:
    page = html.page(
        text,
        html.section(text, html.table([text], [[text]], caption=text), html.paragraph(text), lead=text, anchor="a"),
        html.facts({text: text}),
        html.banner(text, text),
        html.command(text),
        html.digest(text),
        html.missing(text, text),
        html.steps([(text, text, text, text)]),
        html.tiles({text: (text, text)}),
        lead=text,
        kicker=text,
    )
    shape = html.page(
        "x",
        html.section("x", html.table(["x"], [["x"]], caption="x"), html.paragraph("x"), lead="x", anchor="a"),
        html.facts({"x": "x"}),
        html.banner("x", "x"),
        html.command("x"),
        html.digest("x"),
        html.missing("x", "x"),
        html.steps([("x", "x", "x", "x")]),
        html.tiles({"x": ("x", "x")}),
        lead="x",
        kicker="x",
    )
    assert page.count("<") <= shape.count("<")  # an empty text leaves its element out; none can add one
    assert page.count(">") <= shape.count(">")
    assert str(escape(visible(text))) in page


def test_a_template_that_asks_for_a_name_it_was_not_given_fails() -> None:
    with pytest.raises(Exception, match="undefined"):
        html.render("base.html.j2", title="x")


def test_no_verdict_is_told_by_colour_alone() -> None:
    for word, (_, sign) in html.MARKS.items():
        shown = html.badge(word)
        assert word.replace("_", " ") in shown
        assert sign in shown
    assert len({sign for tone, sign in html.MARKS.values() if tone == "good"}) == 1
    assert {sign for tone, sign in html.MARKS.values() if tone == "good"}.isdisjoint(
        sign for tone, sign in html.MARKS.values() if tone != "good"
    )
