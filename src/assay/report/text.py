"""Text on a page: what a supplier wrote can neither act, nor pose as something else, nor flood the page."""

from __future__ import annotations

import unicodedata
from typing import Any

from markupsafe import Markup

from assay.estimate import Estimate

MAX_TEXT = 2_000
FORMULA = ("=", "+", "-", "@", "|", "%")
# control, format (zero-width, bidirectional overrides), surrogate, private use, unassigned
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})

__all__ = ["cell", "estimate", "number", "plain", "visible"]


def visible(value: object) -> str:
    """Text that shows what it is: invisible characters spelled out, long text cut. HTML is escaped elsewhere."""
    text = str(value)
    shown = "".join(_visible(character) for character in text[:MAX_TEXT])
    return f"{shown}… ({len(text)} characters)" if len(text) > MAX_TEXT else shown


def plain(value: object) -> str:
    """Visible text that no spreadsheet runs once it is pasted there.

    A cell that begins with ``=``, ``+``, ``-`` or ``@`` would be a formula; a leading apostrophe makes it text.
    """
    text = visible(value)
    return f"'{text}" if str(value).lstrip().startswith(FORMULA) else text


def number(value: float) -> str:
    """A number for people: thousands apart, four significant digits, a true minus sign."""
    text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return text.replace("-", "−")


def estimate(value: Estimate) -> str:
    """Point and interval, such as ``0.880 [0.858, 0.899]``; nothing measured is said in words."""
    if value.n == 0:
        return "not measured"
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]".replace("-", "−")


def cell(value: Any) -> str:
    """What the template engine prints for any value; markup passes, all else is made plain."""
    if value is None:
        return "–"
    if isinstance(value, Markup):
        return value
    if isinstance(value, Estimate):
        return Markup('<span class="estimate">{}</span>').format(estimate(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    return plain(value)


def _visible(character: str) -> str:
    if character == "\n":
        return " "
    if unicodedata.category(character) in INVISIBLE:
        return f"\\u{ord(character):04x}"
    return character
