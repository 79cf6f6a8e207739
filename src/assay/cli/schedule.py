"""``assay schedule``: run a pipeline on Kubeflow again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli import _kubeflow as options
from assay.cli._shared import Json, answer


def command(
    name: options.Name,
    cron: Annotated[str, typer.Option(help="When: five fields, or six with seconds first, such as '0 3 * * *'.")],
    config: options.ConfigFile = Path("assay.yaml"),
    schedule_name: Annotated[str, typer.Option("--name", help="Of the schedule; by default the pipeline's.")] = "",
    host: options.Host = "",
    namespace: options.Namespace = "",
    experiment: options.Experiment = "assay",
    service_account: options.ServiceAccount = "",
    pipeline_root: options.PipelineRoot = "",
    set_: options.Overrides = None,
    param: options.Params = None,
    allow_local_keys: options.AllowLocalKeys = False,
    json: Json = False,
) -> None:
    """Schedule a version of a pipeline: one run at a time, and missed times are not made up for."""
    from assay.kubeflow.client import Kubeflow
    from assay.kubeflow.submission import require_cron

    times = require_cron(cron)
    compiled, arguments = options.ready(name, config, set_, param, allow_local_keys)
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
