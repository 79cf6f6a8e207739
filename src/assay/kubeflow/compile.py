"""Compile pipelines and components to the YAML that Kubeflow Pipelines takes."""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay import canonical
from assay.config import Config
from assay.config.evaluate import EvaluateConfig
from assay.config.filters import FilterConfig
from assay.config.ingest import IngestConfig
from assay.config.monitor import MonitorConfig
from assay.config.resources import Resources
from assay.config.root import Target
from assay.config.sanitize import SanitizeConfig
from assay.config.train import TrainConfig
from assay.data.files import write_file
from assay.errors import AssayError, UnfitInput
from assay.kubeflow.pipelines import load
from assay.runner.arguments import check_types, from_config, select
from assay.runner.run import pipeline_spec

SEPARATOR = b"\n---\n"

__all__ = ["Compiled", "compile_components", "compile_pipeline", "parameters_of"]


@dataclass(frozen=True)
class Compiled:
    """A compiled pipeline.

    Fields:
        name: as Kubeflow shows it, such as ``robust-training``.
        yaml: both documents: the pipeline, and where its tasks run.
        defaults: value of every parameter that has one.
        spec: the first document, as plain data, before the defaults went in.
    """

    name: str
    yaml: bytes
    defaults: Mapping[str, Any]
    spec: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the YAML."""
        return canonical.sha256(self.yaml)


def parameters_of(config: Config | None) -> dict[str, Any]:
    """What a configuration says to the parameters of the pipelines; without one, what every section has by default."""
    if config is not None:
        selector = {"gpu_node_selector": dict(config.resources.gpu.node_selector)}
        return {**from_config(config), **(selector if config.resources.runtime_node_selector else {})}
    sections = {
        "ingest": IngestConfig(),
        "sanitize": SanitizeConfig(),
        "filter": FilterConfig(),
        "train": TrainConfig(),
        "evaluate": EvaluateConfig(),
        "monitor": MonitorConfig(),
        "target": Target(),
    }
    return {name: canonical.dumps(section.to_json()).decode() for name, section in sections.items()}


def compile_pipeline(name: str, config: Config | None, given: Mapping[str, Any] | None = None) -> Compiled:
    """Compile one pipeline; equal configurations give equal bytes.

    Args:
        name: a file in ``pipelines``.
        config: places the tasks and becomes the defaults of the parameters; None for the built-in defaults, which
            leave sources and policy to the run form.
        given: more parameter defaults, by name.

    Raises:
        UnknownName: no such pipeline or parameter.
        UnfitInput: a default of another type than its parameter.
    """
    pipeline = load(name, config.resources if config else Resources())
    spec = pipeline_spec(pipeline)
    check_types(given or {}, spec)
    defaults = {**select(parameters_of(config), spec), **(given or {})}
    text = _compile(pipeline, defaults)
    if text.count(SEPARATOR) != 1:
        raise AssayError(f"pipeline {name}", "one YAML document", "two: without the second no task finds its GPU")
    return Compiled(spec["pipelineInfo"]["name"], text, defaults, spec)


def compile_components(folder: Path) -> list[Path]:
    """Write ``<step>/component.yaml`` of every component below a folder; returns the paths."""
    from assay.components import STEPS

    paths = []
    for step in STEPS:
        module = importlib.import_module(f"assay.components.{step}.component")
        path = folder / step / "component.yaml"
        write_file(path, _compile(getattr(module, step), {}))
        paths.append(path)
    return paths


def _compile(pipeline: Any, defaults: Mapping[str, Any]) -> bytes:
    from kfp import compiler

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "compiled.yaml"
        try:
            compiler.Compiler().compile(pipeline, str(path), pipeline_parameters=dict(defaults) or None)
        except (TypeError, ValueError) as error:
            raise UnfitInput("compile", str(error), "a pipeline and defaults that KFP accepts") from error
        return path.read_bytes()
