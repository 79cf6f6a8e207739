"""What the verbs that send a pipeline to Kubeflow share: their options, and the pipeline made ready."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli._shared import notes

if TYPE_CHECKING:
    from assay.kubeflow.compile import Compiled

Name = Annotated[
    str,
    typer.Argument(
        help="robust_training, evaluate_and_promote, retrain_on_drift, respond_to_incident, score_features."
    ),
]
ConfigFile = Annotated[Path, typer.Option(help="assay.yaml.")]
Host = Annotated[str, typer.Option(help="Address of Kubeflow Pipelines; by default KFP_ENDPOINT.")]
Namespace = Annotated[str, typer.Option(help="Yours, on a multi-user Kubeflow; by default KFP_NAMESPACE.")]
Experiment = Annotated[str, typer.Option(help="Experiment that groups the runs.")]
ServiceAccount = Annotated[str, typer.Option(help="Service account of the runs' pods.")]
PipelineRoot = Annotated[str, typer.Option(help="Where Kubeflow keeps artifacts; by default the server's.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Override: key.key=value.")]
Params = Annotated[list[str] | None, typer.Option("--param", help="Run parameter: name=value.")]
AllowLocalKeys = Annotated[bool, typer.Option("--allow-local-keys", help="For a trial.")]

__all__ = [
    "AllowLocalKeys",
    "ConfigFile",
    "Experiment",
    "Host",
    "Name",
    "Namespace",
    "Overrides",
    "Params",
    "PipelineRoot",
    "ServiceAccount",
    "ready",
]


def ready(
    name: str, config: Path, overrides: list[str] | None, params: list[str] | None, allow_local_keys: bool
) -> tuple[Compiled, dict[str, Any]]:
    """The pipeline compiled and its arguments, after every check that needs no cluster.

    Raises:
        UnfitInput: the configuration, an argument, or a key that a cluster may not trust.
    """
    from assay.config import Config
    from assay.config.members import require_members
    from assay.kubeflow.submission import local_sources, parse_given, prepare, require_managed_keys

    loaded = Config.load(config, overrides or ())
    require_members(loaded)
    require_managed_keys(loaded, allow_local_keys)
    compiled, arguments = prepare(name, loaded, parse_given(params or ()))
    for source in local_sources(loaded):
        notes.print(f"source {source} lies on this machine; a pod finds it only where that path is mounted")
    return compiled, arguments
