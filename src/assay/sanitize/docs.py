"""Great Expectations' own page about a validation, its data docs, made harmless: nothing fetched, no script run.

Its page asks five hosts for styles and scripts, and its maker's for a picture that carries an identifier. A content
security policy ahead of everything forbids them all, so what a browser shows is the plain text and tables.
"""

from __future__ import annotations

import re
from typing import Any

from assay.errors import AssayError
from assay.sanitize.expectations import quiet

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'"
STYLE = r"""
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem}
table{border-collapse:collapse}td,th{border:1px solid #8886;padding:.2rem .6rem;text-align:left;vertical-align:top}
.fa-check-circle::before{content:"\2713 holds"}.fa-times::before{content:"\2717 misses"}
.fa-exclamation-triangle::before{content:"! raised"}
nav,footer,button,img,.modal,.navbar,.walkthrough-card{display:none!important}
"""
HEAD = (
    '<meta charset="utf-8"><meta name="referrer" content="no-referrer">'
    f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style>'
)
NONE = (
    f"<!DOCTYPE html><html><head>{HEAD}<title>No page</title></head><body><p>The suite was evaluated in chunks, of "
    "which Great Expectations has no page of its own. The report has every expectation.</p></body></html>"
).encode()

__all__ = ["NONE", "data_docs"]


def data_docs(result: Any) -> bytes:
    """The page of an `ExpectationSuiteValidationResult`, in UTF-8.

    Raises:
        AssayError: Great Expectations made a page whose head could not be found, so that nothing would hold it back.
    """
    with quiet():
        from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
        from great_expectations.render.view.view import DefaultJinjaPageView

        view: Any = DefaultJinjaPageView()
        made = str(view.render(ValidationResultsPageRenderer().render(result)))
    head = re.match(r"\s*<!DOCTYPE html>\s*<html[^>]*>\s*<head>", made, re.IGNORECASE)
    if head is None:
        raise AssayError("data docs", repr(made[:80]), "a page that begins with its head")
    return (made[: head.end()] + HEAD + made[head.end() :]).encode()
