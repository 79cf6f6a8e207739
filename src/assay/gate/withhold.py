"""What happens to a model that is not promoted: the refusal is recorded, and nothing else changes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assay import lineage
from assay.data.files import write_file
from assay.errors import Refused
from assay.evidence import payload_id
from assay.gate.summary import markdown
from assay.signing import read_envelope, unseal
from assay.workspace import Workspace

__all__ = ["withhold"]


def withhold(decision: Path, *, summary: Path | None = None, run: str = "") -> dict[str, Any]:
    """Record that a model is not promoted, and why; never promotes, whatever it is given.

    Args:
        decision: envelope written by the gate; unsigned ones are inconclusive, and are recorded too.
        summary: a Markdown page to write, verdict first.
        run: id of the pipeline run.

    Returns:
        ``decision`` (reject or inconclusive), ``decision_id`` and ``rules``.

    Raises:
        Refused: a signature that does not hold, or a decision to promote.
        UnfitInput: a file that is no envelope.
    """
    workspace = Workspace.from_env()
    data = read_envelope(decision)
    with lineage.step("withhold", run, workspace) as record:
        opened = unseal(
            data,
            workspace.keyring,
            kind="decision",
            role="evaluator",
            now=datetime.now(UTC),
            allow_unsigned=True,
            where=str(decision),
        )
        body, decision_id = opened.predicate, payload_id(opened.statement)
        if body.get("decision") not in ("reject", "inconclusive"):
            raise Refused(f"{decision}: decision", repr(body.get("decision")), "'reject' or 'inconclusive'")
        if summary is not None:
            write_file(summary, markdown(opened.statement).encode())
        record.reads("decision", decision_id, body["decision"])
        record.tags |= {"assay.decision": body["decision"], "assay.decision_id": decision_id}
    return {"decision": body["decision"], "decision_id": decision_id, "rules": body["rules"]}
