"""The file ``sources.yaml``: who may contribute what, and, for ``assay ingest NAME``, which batches there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pydantic

from assay import canonical
from assay.config.base import Section, parse
from assay.config.ingest import IngestConfig, SourceConfig, SourceRule, parse_sources

__all__ = ["SourcesFile", "beside", "read_sources", "rules_beside", "with_rules"]


class _Batch(Section):
    batch: str = ""
    uri: str = pydantic.Field(min_length=1)
    labels_uri: str = ""


class _Entry(SourceRule):
    batches: tuple[_Batch, ...] = ()


class _Rules(Section):
    schema_: Literal["assay.sources/v1"] = pydantic.Field(default="assay.sources/v1", alias="schema")
    sources: dict[str, _Entry] = pydantic.Field(min_length=1)


class SourcesFile(Section):
    """What a sources file says, its relative paths made absolute.

    Fields:
        rules: of every source; empty where the file is a plain list of batches.
        batches: known by the name of their source.
    """

    rules: dict[str, SourceRule] = pydantic.Field(default_factory=dict)
    batches: tuple[SourceConfig, ...] = ()


def read_sources(path: Path) -> SourcesFile:
    """Read a sources file; relative paths in it are relative to its folder.

    Two forms: ``sources`` as a mapping of names to the fields of `SourceRule` and ``batches`` (``batch``, ``uri``,
    ``labels_uri``), or a list of `SourceConfig`, which sets no rules.

    Raises:
        UnknownName: an unknown key; carries the nearest known one.
        UnfitInput: anything else that is wrong.
    """
    document = canonical.read_yaml(path)
    named = isinstance(document, dict) and isinstance(document.get("sources"), dict)
    found = _rules(document, path) if named else SourcesFile(batches=parse_sources(document, str(path)))
    folder = path.absolute().parent
    return SourcesFile(
        rules={name: _rule_beside(rule, folder) for name, rule in found.rules.items()},
        batches=tuple(
            batch.model_copy(update={key: beside(getattr(batch, key), folder) for key in ("uri", "labels_uri")})
            for batch in found.batches
        ),
    )


def with_rules(section: Any, folder: Path) -> Any:
    """A section ``ingest`` as written, the path of a sources file under ``sources`` replaced by the rules in it."""
    if not isinstance(section, dict) or not isinstance(section.get("sources"), str):
        return section
    rules = read_sources(folder / section["sources"]).rules
    return section | {"sources": {name: rule.to_json() for name, rule in rules.items()}}


def rules_beside(config: IngestConfig, folder: Path) -> IngestConfig:
    """The section with the relative prefixes of its rules below a folder."""
    rules = {name: _rule_beside(rule, folder) for name, rule in config.sources.items()}
    return config.model_copy(update={"sources": rules})


def beside(uri: str, folder: Path) -> str:
    """A relative path below a folder, keeping the ``/`` at its end; anything else as it is."""
    if not uri or "://" in uri:
        return uri
    return str(folder / uri) + ("/" if uri.endswith("/") else "")


def _rule_beside(rule: SourceRule, folder: Path) -> SourceRule:
    return rule.model_copy(update={"prefixes": tuple(beside(prefix, folder) for prefix in rule.prefixes)})


def _rules(document: dict[str, Any], path: Path) -> SourcesFile:
    entries = parse(_Rules, document, str(path)).sources
    rules = {name: SourceRule(**entry.model_dump(exclude={"batches"})) for name, entry in entries.items()}
    batches = [
        parse(SourceConfig, {"name": name, "trust": entry.trust, **batch.model_dump()}, f"{path}: {name}")
        for name, entry in entries.items()
        for batch in entry.batches
    ]
    return SourcesFile(rules=rules, batches=tuple(batches))
