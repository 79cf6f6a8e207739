"""``assay submit``: upload a version of a pipeline to Kubeflow and run that version."""

from __future__ import annotations

from pathlib import Path

from assay.cli import _kubeflow as options
from assay.cli._shared import Json, answer


def command(
    name: options.Name,
    config: options.ConfigFile = Path("assay.yaml"),
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
    """Upload a version of a pipeline and run it on Kubeflow; the token comes from KF_PIPELINES_TOKEN."""
    from assay.kubeflow.client import Kubeflow

    compiled, arguments = options.ready(name, config, set_, param, allow_local_keys)
    kubeflow = Kubeflow(host, namespace)
    version = kubeflow.upload(compiled)
    run = kubeflow.run(
        version, arguments, experiment=experiment, service_account=service_account, pipeline_root=pipeline_root
    )
    url = kubeflow.run_url(run)
    document = {"run_id": run, "url": url, "pipeline": version.pipeline, "version": version.name}
    answer(document, json, [f"{version.pipeline} {version.name}: run {run}", url])
