"""``assay approve``: a signed approval of a decision that waits for one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer


def command(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="DECISION", help="The decision that waits, or evidence with --policy, --target."),
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="The policy in YAML, beside evidence.")] = None,
    target: Annotated[str, typer.Option(help="MODEL@ALIAS, beside evidence.")] = "",
    why: Annotated[str, typer.Option(help="A comment for those who read it later.")] = "",
    init: Annotated[
        bool, typer.Option("--init", help="Make this workspace's approver key, list it, and leave.")
    ] = False,
    json: Json = False,
) -> None:
    """Agree, by signature, that a model is promoted; the gate, run again on the same evidence, counts it."""
    from assay.approvals import approve
    from assay.config.gate import PolicyConfig
    from assay.promotions import target_of
    from assay.workspace import Workspace

    workspace = Workspace.from_env()
    if init:
        created = workspace.initialise(("approver",))
        key = workspace.signers("approver")[0].public_key.keyid
        answer({"key": key, "created": created}, json, [*(f"wrote {name}" for name in created), f"approver key {key}"])
        return
    if path is None:
        raise typer.BadParameter("DECISION is needed (or --init)")
    document = approve(
        path,
        workspace,
        policy=PolicyConfig.load(policy) if policy else None,
        target=target_of(target) if target else None,
        why=why,
    )
    said = "approved" if document["added"] else "approved before"
    where = f"{document['target']['model']}@{document['target']['alias']}"
    facts = f"model {document['model'][:12]} for {where}, on evidence {document['evidence'][:12]}"
    answer(document, json, [f"{said} by key {document['key'][:12]}: {facts}", "Run the gate again to have it counted."])
