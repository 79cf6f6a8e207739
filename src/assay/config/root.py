"""The whole of ``assay.yaml``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from assay import canonical
from assay.config.base import Section, parse
from assay.config.constraints import with_constraints
from assay.config.evaluate import EvaluateConfig
from assay.config.filters import FilterConfig
from assay.config.gate import PolicyConfig
from assay.config.ingest import IngestConfig, SourceConfig
from assay.config.monitor import MonitorConfig
from assay.config.resources import Resources
from assay.config.sanitize import SanitizeConfig
from assay.config.sources import beside, rules_beside, with_rules
from assay.config.train import TrainConfig
from assay.errors import UnfitInput

__all__ = ["Config", "Target"]


class Target(Section):
    """Where a promoted model goes: the registered model and the alias that serving follows."""

    model: str = pydantic.Field(default="model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    alias: str = pydantic.Field(default="champion", pattern=r"^[a-z][a-z0-9-]{0,63}$")

    @pydantic.field_validator("alias")
    @classmethod
    def _not_reserved(cls, alias: str) -> str:
        if alias == "latest" or re.fullmatch(r"v[0-9]+", alias):
            raise ValueError("an alias that MLflow does not keep for itself (latest, v1, v2, ...)")
        return alias


class Config(Section):
    """One section a step; see each.

    A file may hold ``constraints`` beside them: `load` gives them to ``sanitize`` and to ``evaluate``.
    """

    schema_: Literal["assay.config/v1"] = pydantic.Field(default="assay.config/v1", alias="schema")
    sources: tuple[SourceConfig, ...] = pydantic.Field(min_length=1)
    ingest: IngestConfig = IngestConfig()
    sanitize: SanitizeConfig = SanitizeConfig()
    filter: FilterConfig = FilterConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    policy: PolicyConfig
    promote: Target = Target()
    monitor: MonitorConfig = MonitorConfig()
    resources: Resources = Resources()

    def to_json(self) -> dict[str, Any]:
        """Plain data for canonical JSON, defaults written out."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def load(cls, path: Path | str, overrides: Iterable[str] = ()) -> Config:
        """Read ``assay.yaml``; relative paths in it are relative to its folder.

        ``policy`` may be a mapping or the path of a policy file. Overrides are ``key.key=value``, the value in YAML.

        Raises:
            UnknownName: an unknown key; carries the nearest known one.
            UnfitInput: anything else that is wrong.
        """
        file = Path(path)
        document = canonical.read_yaml(file)
        if not isinstance(document, dict):
            raise UnfitInput(str(file), type(document).__name__, "a mapping of sections")
        for override in overrides:
            document = _override(document, override)
        if isinstance(document.get("policy"), str):
            document["policy"] = canonical.read_yaml(file.parent / document["policy"])
        if "ingest" in document:
            document["ingest"] = with_rules(document["ingest"], file.parent)
        config = parse(cls, with_constraints(document), str(file))
        folder = file.absolute().parent
        sources = tuple(
            source.model_copy(update={key: beside(getattr(source, key), folder) for key in ("uri", "labels_uri")})
            for source in config.sources
        )
        sets = {name: beside(path, folder) for name, path in config.evaluate.sets.items()}
        placed = {
            "ingest": rules_beside(config.ingest, folder),
            "evaluate": config.evaluate.model_copy(update={"sets": sets}),
        }
        return config.model_copy(update={"sources": sources, **placed})


def _override(document: dict[str, Any], text: str) -> dict[str, Any]:
    """A copy of the document with one ``key.key=value`` set."""
    name, equals, value = text.partition("=")
    if not equals or not all(name.split(".")):
        raise UnfitInput("--set", repr(text), "key.key=value, such as train.epochs=3")
    keys = name.split(".")
    result = dict(document)
    inner = result
    for key in keys[:-1]:
        below = inner.get(key, {})
        if not isinstance(below, dict):
            raise UnfitInput(f"--set {name}", f"{key!r}, which is no section", "a path of sections")
        inner[key] = dict(below)
        inner = inner[key]
    try:
        inner[keys[-1]] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UnfitInput(f"--set {name}", repr(value), "a value in YAML, such as 3, true or [a, b]") from error
    return result
