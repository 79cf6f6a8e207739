"""How a run looks on a screen: one line a step while it goes, tables when it is done."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from assay.cli._shared import notes
from assay.runner.result import StepEvent

MARKS = {"succeeded": "ok  ", "failed": "FAIL"}

__all__ = ["lines_of", "progress_line"]


def progress_line(event: StepEvent) -> None:
    """One line on standard error for each step that ends."""
    if event.state in MARKS:
        notes.print(f"{MARKS[event.state]}  {event.task:<16} {event.seconds:6.1f} s")


def lines_of(document: dict[str, Any], commands: Iterable[str]) -> list[str]:
    """The tables of a finished training run, its decision last, then what to do next."""
    tables = [_records(document), _estimates(document), _rules(document)]
    model = document["model"]
    where = (
        f"{model['name']} version {model['version']}, alias {model['alias']}" if model["version"] else "not promoted"
    )
    return [
        *(_text(table) for table in tables),
        f"{document['decision']}: {where}",
        "",
        f"report   {document['report']}",
        *commands,
    ]


def _records(document: dict[str, Any]) -> Table:
    table = Table("source", "kept", "quarantined", "reasons", title="Records", title_justify="left")
    for source, kept in document["kept"].items():
        reasons = document["quarantined"].get(source, {})
        text = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        table.add_row(source, str(kept), str(sum(reasons.values())), text)
    return table


def _estimates(document: dict[str, Any]) -> Table:
    from assay.estimate import Estimate

    table = Table("estimate", "value", "interval", "confidence", "records", title="Measured", title_justify="left")
    for name, fields in document["estimates"].items():
        if name.count("/") > 1 or "[" in name:
            continue  # one attack alone, or one slice; the report has them
        estimate = Estimate.from_json(fields)
        table.add_row(
            name,
            f"{estimate.value:.3f}",
            f"[{estimate.low:.3f}, {estimate.high:.3f}]",
            f"{estimate.confidence:.0%}",
            str(estimate.n),
        )
    return table


def _rules(document: dict[str, Any]) -> Table:
    table = Table("rule", "verdict", "says", title="Gate", title_justify="left")
    for rule in document["rules"]:
        table.add_row(rule["rule"], rule["verdict"], rule.get("text", ""))
    return table


def _text(table: Table) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=120).print(table)
    return buffer.getvalue()
