"""``assay submit``: upload a version of a pipeline to Kubeflow and run that version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer, notes


def command(
    name: Annotated[str, typer.Argument(help="robust_training, retrain_on_drift or evaluate_and_promote.")],
    config: Annotated[Path, typer.Option(help="assay.yaml.")] = Path("assay.yaml"),
    host: Annotated[str, typer.Option(help="Address of Kubeflow Pipelines; by default KFP_ENDPOINT.")] = "",
    namespace: Annotated[str, typer.Option(help="Yours, on a multi-user Kubeflow; by default KFP_NAMESPACE.")] = "",
    experiment: Annotated[str, typer.Option(help="Experiment that groups the runs.")] = "assay",
    service_account: Annotated[str, typer.Option(help="Service account of the run's pods.")] = "",
    pipeline_root: Annotated[str, typer.Option(help="Where Kubeflow keeps artifacts; by default the server's.")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override: key.key=value.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="Run parameter: name=value.")] = None,
    allow_local_keys: Annotated[bool, typer.Option("--allow-local-keys", help="For a trial.")] = False,
    json: Json = False,
) -> None:
    """Upload a version of a pipeline and run it on Kubeflow; the token comes from KF_PIPELINES_TOKEN."""
    from assay.config import Config
    from assay.kubeflow.client import Kubeflow
    from assay.kubeflow.submission import local_sources, parse_given, prepare, require_managed_keys

    loaded = Config.load(config, set_ or ())
    require_managed_keys(loaded, allow_local_keys)
    compiled, arguments = prepare(name, loaded, parse_given(param or ()))
    for source in local_sources(loaded):
        notes.print(f"source {source} lies on this machine; a pod finds it only where that path is mounted")
    kubeflow = Kubeflow(host, namespace)
    version = kubeflow.upload(compiled)
    run = kubeflow.run(
        version, arguments, experiment=experiment, service_account=service_account, pipeline_root=pipeline_root
    )
    url = kubeflow.run_url(run)
    document = {"run_id": run, "url": url, "pipeline": version.pipeline, "version": version.name}
    answer(document, json, [f"{version.pipeline} {version.name}: run {run}", url])
