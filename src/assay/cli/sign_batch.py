"""``assay sign-batch``: a supplier signs what it delivers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer


def command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="The data, a file or a folder of images, and its labels.")
    ],
    source: Annotated[str, typer.Option(help="Name of the source, as the receiver knows it.")],
    key: Annotated[str, typer.Option(help="The private key: a PEM file, or a KMS URI.")],
    batch: Annotated[str, typer.Option(help="Name of the batch; else the file's name without its ending.")] = "",
    new_key: Annotated[bool, typer.Option(help="Make an ed25519 key at KEY when there is none.")] = False,
    json: Json = False,
) -> None:
    """Sign a batch: its source, name, size and SHA-256, in FILE.dsse.json beside it."""
    from assay.ingest.sign import sign_batch

    document = sign_batch(files, source=source, batch=batch, key=key, new_key=new_key)
    lines = [
        document["public"].strip(),
        f"batch {document['batch']}  sha256 {document['sha256'][:12]}  key {document['keyid'][:12]}",
        f"signed: {document['envelope']}",
    ]
    answer(document, json, lines)
