"""``assay schedule``: run a pipeline on Kubeflow again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer, notes


def command(
    name: Annotated[str, typer.Argument(help="robust_training, retrain_on_drift or evaluate_and_promote.")],
    cron: Annotated[str, typer.Option(help="When: five fields, or six with seconds first, such as '0 3 * * *'.")],
    config: Annotated[Path, typer.Option(help="assay.yaml.")] = Path("assay.yaml"),
    schedule_name: Annotated[str, typer.Option("--name", help="Of the schedule; by default the pipeline's.")] = "",
    host: Annotated[str, typer.Option(help="Address of Kubeflow Pipelines; by default KFP_ENDPOINT.")] = "",
    namespace: Annotated[str, typer.Option(help="Yours, on a multi-user Kubeflow; by default KFP_NAMESPACE.")] = "",
    experiment: Annotated[str, typer.Option(help="Experiment that groups the runs.")] = "assay",
    service_account: Annotated[str, typer.Option(help="Service account of the runs' pods.")] = "",
    pipeline_root: Annotated[str, typer.Option(help="Where Kubeflow keeps artifacts; by default the server's.")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override: key.key=value.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="Run parameter: name=value.")] = None,
    allow_local_keys: Annotated[bool, typer.Option("--allow-local-keys", help="For a trial.")] = False,
    json: Json = False,
) -> None:
    """Schedule a version of a pipeline: one run at a time, and missed times are not made up for."""
    from assay.config import Config
    from assay.kubeflow.client import Kubeflow
    from assay.kubeflow.submission import local_sources, parse_given, prepare, require_cron, require_managed_keys

    times = require_cron(cron)
    loaded = Config.load(config, set_ or ())
    require_managed_keys(loaded, allow_local_keys)
    compiled, arguments = prepare(name, loaded, parse_given(param or ()))
    for source in local_sources(loaded):
        notes.print(f"source {source} lies on this machine; a pod finds it only where that path is mounted")
    kubeflow = Kubeflow(host, namespace)
    version = kubeflow.upload(compiled)
    schedule = kubeflow.schedule(
        version,
        arguments,
        cron=times,
        name=schedule_name or version.pipeline,
        experiment=experiment,
        service_account=service_account,
        pipeline_root=pipeline_root,
    )
    url = kubeflow.schedule_url(schedule)
    document = {
        "schedule_id": schedule,
        "url": url,
        "cron": times,
        "pipeline": version.pipeline,
        "version": version.name,
    }
    answer(document, json, [f"{version.pipeline} {version.name}: schedule {schedule} at {times}", url])
