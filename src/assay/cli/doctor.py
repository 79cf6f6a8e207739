"""``assay doctor``: what assay needs around it, and how to mend what is missing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer, leave


def command(
    config: Annotated[Path | None, typer.Option(help="assay.yaml; its sources are looked at too.")] = None,
    host: Annotated[str, typer.Option(help="Address of Kubeflow Pipelines; by default KFP_ENDPOINT.")] = "",
    json: Json = False,
) -> None:
    """Check what assay needs: Python, packages, keys, ledger, MLflow, storage, Kubeflow, GPU; exit 1 when one fails."""
    from assay.config import Config
    from assay.doctor import examine
    from assay.workspace import Workspace

    checks = examine(Workspace.from_env(), Config.load(config) if config else None, host)
    lines = [
        f"{check.state:<5} {check.name:<14} {check.found}" + (f"\n{'':21}{check.mend}" if check.mend else "")
        for check in checks
    ]
    healthy = all(check.state != "fail" for check in checks)
    answer({"healthy": healthy, "checks": [asdict(check) for check in checks]}, json, lines)
    leave(0 if healthy else 1)
