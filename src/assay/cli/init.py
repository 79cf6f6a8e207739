"""``assay init``: a commented assay.yaml, a policy and keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer

FILES = ("assay.yaml", "policy.yaml")


def command(
    folder: Annotated[Path, typer.Argument(help="Where to write assay.yaml and policy.yaml.")] = Path(),
    json: Json = False,
) -> None:
    """Write a commented assay.yaml, a policy and local keys; what is already there stays as it is."""
    from importlib.resources import files

    from assay.data.files import write_file
    from assay.workspace import Workspace

    created, left = [], []
    for name in FILES:
        target = folder / name
        if target.exists():
            left.append(str(target))
            continue
        write_file(target, (files("assay") / "templates" / name).read_bytes())
        created.append(str(target))
    workspace = Workspace.from_env()
    created += workspace.initialise()
    lines = [f"wrote {name}" for name in created] + [f"left {name} as it is" for name in left]
    config = folder / "assay.yaml"
    lines.append(f"Next: name your sources in {config}, then: assay run --config {config}")
    answer({"created": created, "kept": left, "home": str(workspace.home)}, json, lines)
