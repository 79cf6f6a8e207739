"""``assay verify-serving``: from an alias to a verified private copy of its model, before a server loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer


def command(
    ref: Annotated[str, typer.Argument(metavar="alias:MODEL@ALIAS", help="What to serve: alias:digits@champion.")],
    out: Annotated[Path, typer.Option(help="Folder of the model for the server; replaced only when all holds.")],
    keys: Annotated[Path | None, typer.Option(help="The public keys; default those of the workspace.")] = None,
    seen: Annotated[
        Path | None, typer.Option(help="Remembers the highest sequence seen; default beside the folder.")
    ] = None,
    model: Annotated[str, typer.Option(help="The digest that the model must have; empty for any.")] = "",
    decision: Annotated[str, typer.Option(help="The decision it must rest on; empty for any.")] = "",
    replay: Annotated[bool, typer.Option("--replay", help="Load the copy and compare its golden outputs.")] = False,
    bundle: Annotated[
        Path | None, typer.Option(help="A folder for everything that was verified, which assay verify takes offline.")
    ] = None,
    registry: Annotated[
        bool, typer.Option("--registry/--no-registry", help="Whether MLflow's alias has to agree.")
    ] = True,
    json: Json = False,
) -> None:
    """Hand a server what was promoted; alias to bytes checked, a private copy (0) or none (1)."""
    from dataclasses import replace

    from assay.data.files import require_places
    from assay.errors import UnfitInput
    from assay.models.spec import SPEC
    from assay.promotions import target_of
    from assay.serving import fetch
    from assay.workspace import Workspace

    kind, _, name = ref.partition(":")
    if kind != "alias" or "@" not in name:
        raise UnfitInput("what to serve", repr(ref), "alias:<model>@<alias>, such as alias:digits@champion")
    require_places(seen, folders=[out], holding=[SPEC])
    require_places(folders=[bundle], holding=["promotion.dsse.json"])
    workspace = Workspace.from_env()
    if keys is not None:
        workspace = replace(workspace, keyring_path=keys)
    document = fetch(
        target_of(name), out, workspace=workspace, registry=registry, model=model, decision=decision, seen=seen,
        replay=replay, bundle=bundle,
    )  # fmt: skip
    found = document["model"]
    lines = [f"  {name:<9} {document[name]}" for name in ("promotion", "decision", "evidence", "policy")]
    version = f" version {found['version']}" if found["version"] else ""
    back = f", back at promotion {document['rollback_to']}" if document["rollback_to"] else ""
    lines.append(f"verified: {name}{version}, promotion {document['sequence']}{back}, model {found['digest'][:12]}")
    answer(document, json, lines)
