"""``assay audit``: every mismatch between MLflow and the signed promotions."""

from __future__ import annotations

from assay.cli._shared import Json, answer, leave


def command(json: Json = False) -> None:
    """Compare MLflow with the signed record: nothing differs (exit 0) or something does (1)."""
    from assay.audit import audit
    from assay.workspace import Workspace

    document = audit(Workspace.from_env().with_ledger())
    found, checked = document["mismatches"], document["checked"]
    lines = [f"  {one['where']}: {one['got']}, the signed record says {one['need']}" for one in found]
    counts = ", ".join(f"{count} {name}" for name, count in checked.items())
    answer(document, json, [*lines, f"{len(found)} mismatches in {counts}"])
    leave(1 if found else 0)
