"""``assay verify``: an envelope, a dataset, a model or a folder of them, or that a record is in a dataset; offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli._shared import Json, answer, leave


def command(
    path: Annotated[
        str, typer.Argument(help="An envelope, a proof, a dataset or model folder, a folder of them, or record:ID.")
    ],
    keys: Annotated[Path | None, typer.Option(help="The public keys; default those of the workspace.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="An envelope that has to speak of it, such as the promotion of a model.")
    ] = None,
    dataset: Annotated[Path | None, typer.Option(help="For record:ID: the dataset that may hold it.")] = None,
    digest: Annotated[str, typer.Option(help="For record:ID or a proof: the dataset's digest that you trust.")] = "",
    proof: Annotated[Path | None, typer.Option(help="For record:ID: write its proof there, to verify alone.")] = None,
    json: Json = False,
) -> None:
    """Check signatures and digests with public keys only: verified (exit 0) or not (1)."""
    from assay.keyring import Keyring
    from assay.verify import verify
    from assay.workspace import Workspace

    if path.startswith("record:"):
        document = _record(path.partition(":")[2], dataset, digest, proof)
    else:
        keyring = Keyring.load(keys) if keys is not None else Workspace.from_env().keyring
        document = verify(Path(path), keyring, against=against)
        document |= _other_dataset(document, digest)
    lines = [
        f"  {'holds ' if one['verified'] else 'misses'}  {one['path']}: {one['reason']}"
        for one in document.get("checked", ())
    ]
    answer(document, json, [*lines, f"{'verified' if document['verified'] else 'not verified'}: {document['reason']}"])
    leave(0 if document["verified"] else 1)


def _record(name: str, dataset: Path | None, digest: str, proof: Path | None) -> dict[str, Any]:
    """Whether a dataset holds a record."""
    from assay import canonical
    from assay.data.dataset import Dataset
    from assay.data.files import write_file
    from assay.data.proof import prove
    from assay.data.records import RecordId
    from assay.errors import Refused, UnfitInput

    record = RecordId.parse(name)
    if dataset is None:
        raise UnfitInput(f"record:{name}", "no --dataset", "the folder of the dataset that may hold it")
    try:
        made = prove(Dataset.load(dataset), record)
        shown = made.verify(digest)
    except Refused as error:
        return {"verified": False, "reason": str(error)}
    if proof is not None:
        write_file(proof, canonical.dumps(made.to_json()))
    where = f"block {shown['block']} of {shown['blocks']} of dataset {shown['dataset']['digest'][:12]}"
    return {"verified": True, "reason": f"{record} is in {where}", **shown}


def _other_dataset(document: dict[str, Any], digest: str) -> dict[str, Any]:
    """What changes when the thing verified is, or speaks of, another dataset than the trusted one."""
    found = {one["id"] for one in document["checked"] if one["kind"] in ("dataset", "proof")}
    if not digest or not document["verified"] or found == {digest}:
        return {}
    return {"verified": False, "reason": f"dataset {', '.join(sorted(found)) or 'none'}, not {digest}"}
