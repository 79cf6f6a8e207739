"""``assay runs``: the latest runs on Kubeflow."""

from __future__ import annotations

from typing import Annotated

import typer

from assay.cli._shared import Json, answer


def command(
    host: Annotated[str, typer.Option(help="Address of Kubeflow Pipelines; by default KFP_ENDPOINT.")] = "",
    namespace: Annotated[str, typer.Option(help="Yours, on a multi-user Kubeflow; by default KFP_NAMESPACE.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 20,
    json: Json = False,
) -> None:
    """List the latest runs on Kubeflow."""
    from assay.kubeflow.client import Kubeflow

    runs = Kubeflow(host, namespace).runs(limit)
    lines = [f"{run['created'][:19]}  {run['state']:<10}  {run['id']}  {run['name']}" for run in runs]
    answer({"runs": runs}, json, lines or ["no runs"])
