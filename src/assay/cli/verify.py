"""``assay verify``: an envelope, a dataset, a model or a folder of them, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer, leave


def command(
    path: Annotated[Path, typer.Argument(help="An envelope, a dataset folder, a model folder, or a folder of them.")],
    keys: Annotated[Path | None, typer.Option(help="The public keys; default those of the workspace.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="An envelope that has to speak of it, such as the promotion of a model.")
    ] = None,
    json: Json = False,
) -> None:
    """Check signatures and digests with public keys only: verified (exit 0) or not (1)."""
    from assay.signing import Keyring
    from assay.verify import verify
    from assay.workspace import Workspace

    keyring = Keyring.load(keys) if keys is not None else Workspace.from_env().keyring
    document = verify(path, keyring, against=against)
    lines = [
        f"  {'holds ' if one['verified'] else 'misses'}  {one['path']}: {one['reason']}" for one in document["checked"]
    ]
    answer(document, json, [*lines, f"{'verified' if document['verified'] else 'not verified'}: {document['reason']}"])
    leave(0 if document["verified"] else 1)
