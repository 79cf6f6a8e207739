"""The step ``report``: write the page about a run, and record that it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay import lineage
from assay.data.files import write_file
from assay.report.custody import broken, chain
from assay.report.facts import gather
from assay.report.inputs import ReportInputs
from assay.report.page import render

__all__ = ["report"]


def report(inputs: ReportInputs, page: Path | str, *, run: str = "", title: str = "") -> dict[str, Any]:
    """Write the page about a run; see `assay.report.page`.

    Args:
        inputs: files of the run.
        page: the HTML file to write, whole.
        run: id of the pipeline run.
        title: heading of the page.

    Returns:
        ``report`` (the path written), ``decision`` (a word, or None), ``decision_id``, ``verified`` (the decision's
        signature holds, and no link of the chain of custody breaks), ``problems`` (input to why it could not be
        read).
    """
    with lineage.step("report", run) as record:
        facts = gather(inputs, record.workspace)
        write_file(page, render(facts, title=title, run=record.run).encode())
        for kind in ("evidence", "decision", "promotion"):
            sealed = getattr(facts, kind).value
            if sealed is not None and sealed.verified:
                record.reads(kind, sealed.id)
        record.shows(page)
    decision = facts.decision.value
    return {
        "report": str(page),
        "decision": decision.body.word if decision else None,
        "decision_id": decision.id if decision else None,
        "verified": decision is not None and decision.verified and not broken(chain(facts)),
        "problems": facts.problems,
    }
