"""Registries caught up with the ledger: what a crash left between the commit of a promotion and its journal."""

from __future__ import annotations

from typing import Any

from assay.promotion_copies import finish, point_at_head
from assay.promotions import history, journal_name, place_of, targets
from assay.registry import Registry
from assay.workspace import Workspace

__all__ = ["reconcile"]


def reconcile(workspace: Workspace, *, restore: bool = False) -> dict[str, Any]:
    """Finish what a crash left between commit and journal, for every target.

    Args:
        workspace: whose ledger and registry.
        restore: put an alias that was moved by hand back to the last promotion; without it the alias is only reported,
            since somebody may have had a reason.

    Returns:
        ``finished``: promotions that now have version, alias and journal, as ``<model>@<alias>/<sequence>``;
        ``moved``: aliases that do not stand at the last promotion though its journal says they did, each with
        ``target``, ``got``, ``need`` and ``restored``.

    Raises:
        Refused: the ledger's chain of promotions does not hold.
        Unreachable: MLflow does not answer.
    """
    registry, ledger = Registry(workspace), workspace.ledger
    registry.probe()
    finished, moved = [], []
    for target in targets(ledger):
        promotions = history(ledger, workspace.keyring, target)
        done = set(ledger.names(f"journal/{place_of(target)}/"))
        for made in promotions:
            if journal_name(made) not in done:
                finish(made, registry, workspace)
                finished.append(f"{place_of(target)}/{made.sequence}")
        head, got = promotions[-1], registry.aliases(target.model).get(target.alias, "")
        need = registry.register(head)
        if got != need:
            if restore:
                point_at_head(registry, workspace, target)
            moved.append({"target": place_of(target), "got": got, "need": need, "restored": restore})
    return {"finished": finished, "moved": moved}
