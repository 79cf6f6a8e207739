"""What a hostile supplier chooses reaches the report as text: names of classes, columns, detectors, reasons, rules."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markupsafe import escape
from report_run import make_run

from assay.data.dataset import Dataset
from assay.data.findings import Finding, findings_bytes
from assay.estimate import proportion
from assay.report.inputs import ReportInputs
from assay.report.page import write_report
from assay.report.text import visible
from assay.signing import peek, seal
from assay.workspace import Workspace

MARKUP = " ".join(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "'></style></title></svg><svg onload=alert(1)>",
        "{{ 7 * 7 }}{% include 'page.css' %}",
        "]]><!--<foreignObject><iframe src=//evil.example>",
        "\u202egnp.exe\u2066\x00\x1b[31m",
        "$\\input{/etc/passwd}$",
    ]
)
FORMULAS = ["=cmd|' /C calc'!A0", "@SUM(1+1)*cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0"]

ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "section", "nav", "a", "p", "h1", "h2", "h3",
    "div", "span", "strong", "code", "pre", "dl", "dt", "dd", "ol", "ul", "li", "figure", "figcaption", "img", "table",
    "caption", "thead", "tbody", "tr", "th", "td", "svg", "g", "path", "use", "defs", "text", "tspan", "desc",
    "details", "summary", "clippath", "rect", "pattern",
}  # fmt: skip


class Seen(HTMLParser):
    """Tags, attribute names and table cells as a browser would build them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.cells: list[str] = []
        self._cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._cell = tag in ("td", "th")
        if self._cell:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.cells[-1] += data


def hostile_inputs(folder: Path, workspace: Workspace, payload: str) -> ReportInputs:
    """A run in which everything that outsiders name carries the payload."""
    inputs = make_run(folder, workspace).inputs
    renamed: dict[str, Path] = {}
    for name in ("dataset", "kept", "filtered", "filter_quarantine", "sanitize_quarantine"):
        part = Dataset.load(inputs.places[name])
        classes = [f"{payload}{place}" for place in range(10)]
        table = part.table.rename_columns([payload if one == "image" else one for one in part.table.column_names])
        findings = [Finding(part.record_ids[0], payload, 99.0, payload, "quarantine")] if "quarantine" in name else []
        renamed[name] = folder / "hostile" / name
        history = part.manifest.history
        removed = {**history.removed, "vendor-a": {payload: 3}}
        Dataset.make(table, classes, replace(history, removed=removed, findings="")).save(
            renamed[name], {"findings.parquet": findings_bytes(findings)} if findings else None
        )
    scores = pq.read_table(inputs.places["scores"])
    pq.write_table(
        scores.rename_columns(["record_id", payload, f"{payload} 2", "decision"]), folder / "hostile" / "scores"
    )
    outcomes = pq.read_table(inputs.places["outcomes"])
    attack = pa.array([payload] * outcomes.num_rows)
    outcomes = outcomes.append_column(f"robust/{payload}", outcomes["clean_correct"])
    pq.write_table(outcomes.append_column(f"broken_by/{payload}", attack), folder / "hostile" / "outcomes")
    renamed |= {name: folder / "hostile" / name for name in ("scores", "outcomes")}
    for name in ("evidence", "decision"):
        document = peek(Path(inputs.places[name]).read_bytes())
        _poison(document["predicate"], payload)
        renamed[name] = folder / "hostile" / f"{name}.dsse.json"
        renamed[name].write_bytes(seal(document, workspace.signers("evaluator")))
    return ReportInputs.of({**inputs.places, **renamed}, {f"backdoor_success/{payload}": proportion(1, 2)})


def _poison(predicate: dict[str, object], payload: str) -> None:
    for key in ("estimates", "soundness", "measured"):
        inner = predicate.get(key)
        if isinstance(inner, dict):
            inner[payload] = next(iter(inner.values()))
    for rule in predicate.get("rules", []):  # type: ignore[attr-defined]
        rule |= dict.fromkeys(("rule", "about", "need", "note", "text"), payload) | {"verdict": payload}
    if "target" in predicate:
        predicate["target"] = {"model": payload, "alias": payload}


@pytest.mark.parametrize("payload", [MARKUP, *FORMULAS])
def test_a_hostile_name_reaches_the_page_as_text_only(payload: str, workspace: Workspace, tmp_path: Path) -> None:
    inputs = hostile_inputs(tmp_path / "run", workspace, payload)
    write_report(inputs, tmp_path / "page.html", run=payload, title=payload)
    page = (tmp_path / "page.html").read_text("utf-8")
    seen = Seen(page)
    assert seen.tags <= ALLOWED, seen.tags - ALLOWED
    assert not {name for name in seen.attributes if name.startswith("on")}
    assert not [cell for cell in seen.cells if cell.strip().startswith(("=", "+", "-", "@"))]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", page)
    if "{{" in payload:
        assert "{{ 7 * 7 }}" in page
    assert page.count("default-src 'none'") == 1
    shown = str(escape(visible(payload[:20])))
    assert page.count(shown) > 40, "the payload never got there, so nothing was tested"
