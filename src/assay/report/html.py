"""Pages and the pieces they are made of: one style, one escaping rule, nothing fetched and no script.

    page("Sanitize", section("Removed", table(["source", "records"], rows), lead="..."), lead="...")

Every piece is `markupsafe.Markup`; any other value that reaches a template is made plain (`assay.report.text`) and
escaped, so a record id or class name that a hostile supplier chose stays text. The page forbids by its own content
security policy what it does not need: scripts, frames, forms and every outside address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from assay.report.text import cell, visible

HERE = Path(__file__).parent
MAX_ROWS = 200
Tone = Literal["good", "bad", "unsure", "calm"]
SIGNS: dict[Tone, str] = {"good": "✓", "bad": "✕", "unsure": "?", "calm": "•"}
MARKS: dict[str, tuple[Tone, str]] = {
    "promote": ("good", "✓"),
    "holds": ("good", "✓"),
    "verified": ("good", "✓"),
    "reject": ("bad", "✕"),
    "misses": ("bad", "✕"),
    "refused": ("bad", "✕"),
    "inconclusive": ("unsure", "?"),
    "unclear": ("unsure", "?"),
    "unverified": ("unsure", "?"),
    "not_measured": ("unsure", "–"),
}

__all__ = [
    "Tone",
    "badge",
    "banner",
    "command",
    "contents",
    "details",
    "digest",
    "facts",
    "figure",
    "heading",
    "missing",
    "page",
    "paragraph",
    "render",
    "section",
    "steps",
    "table",
    "tiles",
]


def render(template: str, /, **context: Any) -> str:
    """A template of this folder with its context, as text; a name the context lacks is an error."""
    return _environment().get_template(template).render(**context)


def page(title: str, *parts: Markup, lead: str = "", kicker: str = "assay") -> str:
    """A whole page.

    Args:
        title: heading and window title.
        parts: sections, banners, tables, figures, in order.
        lead: one or two sentences below the heading.
        kicker: a few words above the heading, such as the run's id.
    """
    return render("base.html.j2", title=title, lead=lead, kicker=kicker, parts=parts)


def section(title: str, *parts: Markup, lead: str = "", anchor: str = "") -> Markup:
    """A part of a page under its own heading; with an ``anchor`` other parts can link to it."""
    return _part("section", title=title, parts=parts, lead=lead, anchor=anchor)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "", limit: int = MAX_ROWS
) -> Markup:
    """A table; numbers stand right, and rows beyond ``limit`` are counted instead of shown."""
    every = iter(rows)
    shown = [list(row) for row in islice(every, limit)]
    right = [_numeric([row[place] for row in shown]) for place in range(len(columns))]
    heads = list(zip(columns, right, strict=True))
    body = [list(zip(row, right, strict=True)) for row in shown]
    return _part("table", heads=heads, rows=body, more=sum(1 for _ in every), caption=caption)


def contents(anchors: Mapping[str, str]) -> Markup:
    """Links to the sections of a page, by anchor."""
    return _part("contents", anchors=anchors)


def details(summary: str, *parts: Markup) -> Markup:
    """Parts that open on a click, for what only some readers want."""
    return _part("details", summary=summary, parts=parts)


def facts(pairs: Mapping[str, object]) -> Markup:
    """Names and values, one pair a line."""
    return _part("facts", pairs=pairs)


def banner(word: str, text: str, tone: Tone | None = None, detail: Markup | None = None) -> Markup:
    """The answer of a page: one word, one sentence; colour and sign follow the word unless a tone is given."""
    known, sign = MARKS.get(word, (tone or "calm", SIGNS[tone or "calm"]))
    return _part("banner", word=word, text=text, tone=tone or known, sign=sign, detail=detail)


def tiles(pairs: Mapping[str, tuple[str, str]]) -> Markup:
    """The few numbers that matter most: name, number, and a line of small print for each."""
    return _part("tiles", pairs=pairs)


def steps(entries: Iterable[tuple[str, str, str, str]]) -> Markup:
    """A chain, link by link: name, digest, verdict, what was checked."""
    return _part("steps", entries=[(name, value, badge(word), says) for name, value, word, says in entries])


def badge(word: str) -> Markup:
    """A small verdict: sign, word and colour, so that none of the three carries the meaning alone."""
    tone, sign = MARKS.get(word, ("calm", "•"))
    return _part("badge", word=word.replace("_", " "), tone=tone, sign=sign)


def figure(picture: Markup, caption: str = "") -> Markup:
    """A plot or pictures with a caption."""
    return _part("figure", picture=picture, caption=caption)


def digest(value: str) -> Markup:
    """A full digest or id; one click selects it."""
    return _part("digest", value=value)


def command(text: str) -> Markup:
    """A command line to copy; one click selects it."""
    return _part("command", text=Markup.escape(visible(text)))


def paragraph(text: str) -> Markup:
    """One paragraph of text."""
    return _part("paragraph", text=text)


def heading(text: str) -> Markup:
    """A heading inside a section."""
    return _part("heading", text=text)


def missing(what: str, why: str = "This run did not provide it.") -> Markup:
    """Says that something was not measured, in place of it."""
    return _part("missing", what=what, why=why)


def _part(name: str, **context: Any) -> Markup:
    macro = getattr(_environment().get_template("parts.html.j2").module, name)
    return Markup(macro(**context))


def _numeric(values: list[object]) -> bool:
    """All that is there are numbers, and something is there."""
    there = [value for value in values if value is not None]
    return bool(there) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in there)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=cell,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals["css"] = Markup((HERE / "page.css").read_text("utf-8"))
    return made
