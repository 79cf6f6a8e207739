"""``assay compile``: a pipeline, or every component, as the YAML that Kubeflow Pipelines takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer


def command(
    name: Annotated[
        str,
        typer.Argument(
            help="robust_training, evaluate_and_promote, retrain_on_drift, respond_to_incident, score_features."
        ),
    ] = "",
    config: Annotated[Path | None, typer.Option(help="assay.yaml; without it the built-in defaults.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; by default NAME.yaml.")] = None,
    components: Annotated[Path | None, typer.Option(help="Write STEP/component.yaml of every step below this.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override: key.key=value.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="Default of a run parameter: name=value.")] = None,
    json: Json = False,
) -> None:
    """Compile a pipeline, or all components, for Kubeflow; the file holds the placement too."""
    from assay.config import Config
    from assay.data.files import write_file
    from assay.errors import UnfitInput
    from assay.kubeflow.compile import compile_components, compile_pipeline
    from assay.kubeflow.submission import parse_given

    if bool(name) == (components is not None):
        raise UnfitInput("assay compile", "neither or both", "NAME of a pipeline, or --components DIR")
    if components is not None:
        paths = [str(path) for path in compile_components(components)]
        answer({"components": paths}, json, paths)
        return
    loaded = Config.load(config, set_ or ()) if config else None
    compiled = compile_pipeline(name, loaded, parse_given(param or ()))
    path = out or Path(f"{name}.yaml")
    write_file(path, compiled.yaml)
    document = {
        "pipeline": compiled.name,
        "path": str(path),
        "digest": compiled.digest,
        "parameters": dict(compiled.defaults),
    }
    answer(document, json, [f"{compiled.name}  {compiled.digest[:12]}  {path}"])
