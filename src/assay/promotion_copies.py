"""What follows the commit of a promotion: the registry's version and alias, the journal, the outputs of the step.

All of it is a copy of the ledger, that any later call finishes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay import canonical, lineage
from assay.config.root import Target
from assay.data.files import write_file
from assay.errors import AssayError
from assay.ledger import put_first
from assay.promotions import Promotion, history, journal_name, name_of, place_of
from assay.registry import Registry
from assay.workspace import Workspace

MOST_RACES = 1000  # lost in a row; far beyond what any number of gates can cause

__all__ = ["MOST_RACES", "answer", "finish", "point_at_head", "tell"]


def finish(promotion: Promotion, registry: Registry, workspace: Workspace) -> tuple[str, int]:
    """Version, alias, journal; returns the version and the target's highest sequence."""
    version = registry.register(promotion)
    head = point_at_head(registry, workspace, promotion.target)
    note = {"schema": "assay.journal/v1", "promotion": promotion.id, "version": version}
    put_first(workspace.ledger, journal_name(promotion), canonical.dumps(note))
    return version, head


def point_at_head(registry: Registry, workspace: Workspace, target: Target) -> int:
    """Set the alias to the last promotion's version and look again until both agree.

    MLflow sets an alias without asking what was there. So whoever set it reads the ledger once more: a promotion that
    was committed meanwhile is the one that counts, and the last to set the alias has always seen the last commit.
    """
    for _ in range(MOST_RACES):
        last = history(workspace.ledger, workspace.keyring, target)[-1]
        version = registry.register(last)
        if registry.aliases(target.model).get(target.alias) == version:
            return last.sequence
        registry.point(last, version)
    raise AssayError(
        f"alias {place_of(target)}", f"moved {MOST_RACES} times meanwhile", "one that stays", "Run it again."
    )


def tell(made: Promotion, version: str, copy: Path | None, summary: Path | None, record: lineage.StepRecord) -> None:
    """The outputs of the step and its record."""
    if copy is not None:
        write_file(copy, record.ledger.get(name_of(made.target, made.sequence)))
    if summary is not None:
        write_file(summary, _markdown(made, version).encode())
    for kind in ("decision", "evidence", "model"):
        record.reads(kind, getattr(made, kind))
    record.writes("promotion", made.id, place_of(made.target))
    record.tags |= {"assay.promotion": made.id, "assay.model_version": f"{made.target.model}/{version}"}


def answer(made: Promotion, version: str, head: int) -> dict[str, Any]:
    """What `assay.promote.promote` returns."""
    return {
        "promoted": True,
        "model": made.target.model,
        "version": version,
        "alias": made.target.alias,
        "sequence": made.sequence,
        "rollback_to": made.origin_sequence if made.is_rollback else 0,
        "promotion": made.id,
        "evidence": made.evidence,
        "decision": made.decision,
        "head": head,
    }


def _markdown(promotion: Promotion, version: str) -> str:
    facts = {
        "version": f"{promotion.target.model}/{version}",
        "sequence": str(promotion.sequence),
        "promotion": promotion.id,
        "evidence": promotion.evidence,
        "decision": promotion.decision,
        "model": promotion.model,
    }
    return "\n".join(
        [f"# Promoted to `{place_of(promotion.target)}`", "", *(f"- {k}: `{v}`" for k, v in facts.items()), ""]
    )
