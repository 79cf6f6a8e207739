"""Pipeline parameters: from a configuration to canonical JSON, and checked against what the pipeline takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from assay import canonical
from assay.config import Config
from assay.errors import UnfitInput, UnknownName

LIMIT_BYTES = 64 * 1024
KINDS: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}

__all__ = ["check_arguments", "check_types", "from_config", "select"]


def from_config(config: Config) -> dict[str, str]:
    """What a configuration says to each parameter of assay's pipelines, as canonical JSON."""
    sections = {
        "sources": [source.to_json() for source in config.sources],
        "ingest": config.ingest.to_json(),
        "sanitize": config.sanitize.to_json(),
        "filter": config.filter.to_json(),
        "train": config.train.to_json(),
        "evaluate": config.evaluate.to_json(),
        "policy": config.policy.to_json(),
        "target": config.promote.to_json(),
        "monitor": config.monitor.to_json(),
    }
    return {name: canonical.dumps(section).decode() for name, section in sections.items()}


def select(arguments: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Those arguments that a compiled pipeline takes."""
    return {name: value for name, value in arguments.items() if name in _parameters(spec)}


def check_arguments(arguments: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    """Check names, types, sizes and completeness, which neither kfp nor Kubeflow does before the first step runs.

    Args:
        arguments: by parameter name.
        spec: the compiled pipeline, as plain data.

    Raises:
        UnknownName: no such parameter; carries the nearest one.
        UnfitInput: one is missing, of another type, not finite, or too large to be handed to a process.
    """
    check_types(arguments, spec)
    missing = {
        name: parameter
        for name, parameter in sorted(_parameters(spec).items())
        if name not in arguments and "defaultValue" not in parameter and not parameter.get("isOptional")
    }
    if missing:
        where = f"{_name(spec)}: parameter {', '.join(missing)}"
        raise UnfitInput(where, "nothing", "a value", next(iter(missing.values())).get("description", ""))


def check_types(arguments: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    """As `check_arguments`, but some may be missing."""
    known = _parameters(spec)
    for name, value in arguments.items():
        if name not in known:
            raise UnknownName(f"parameter of {_name(spec)}", name, known)
        _check_value(f"{_name(spec)}: parameter {name}", value, known[name]["parameterType"])


def _name(spec: Mapping[str, Any]) -> str:
    return f"pipeline {spec['pipelineInfo']['name']}"


def _parameters(spec: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return found


def _check_value(where: str, value: Any, kind: str) -> None:
    allowed = KINDS.get(kind, ())
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind != "BOOLEAN"):
        raise UnfitInput(where, f"{type(value).__name__} {value!r}"[:200], f"a {kind.lower().replace('_', ' ')}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UnfitInput(where, repr(value), "a finite number")
    size = len(value.encode()) if isinstance(value, str) else len(canonical.dumps(value))
    if size > LIMIT_BYTES:
        raise UnfitInput(
            where, f"{size} bytes", f"at most {LIMIT_BYTES}", "List larger things in a file and pass its URI."
        )
