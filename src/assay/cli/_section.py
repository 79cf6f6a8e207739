"""A section of the configuration for a verb of one step: a file of its own, or its part of a whole ``assay.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from assay import canonical
from assay.config.base import Section, parse
from assay.config.constraints import with_constraints
from assay.config.sources import with_rules
from assay.errors import UnfitInput, UnknownName

S = TypeVar("S", bound=Section)

__all__ = ["read_section"]


SCHEMA = "assay.config/v1"


def read_section(path: Path | None, name: str, model: type[S]) -> S:
    """The section from a YAML file, or its defaults without one.

    A document with the key ``schema``, or a list ``sources``, is a whole ``assay.yaml``, of which the part ``name`` is
    taken.
    """
    if path is None:
        return parse(model, {}, name)
    document = canonical.read_yaml(path)
    if not isinstance(document, dict):
        raise UnfitInput(str(path), type(document).__name__, f"the section {name}, or an assay.yaml")
    whole = "schema" in document or isinstance(document.get("sources"), list)
    section = _part(document, name, path) if whole else document
    section = with_rules(section, path.parent) if name == "ingest" else section
    return parse(model, section, f"{path}: {name}" if whole else str(path))


def _part(document: dict[str, Any], name: str, path: Path) -> Any:
    """The section of a whole document, whose other names have to be known: a misspelt one would mean the defaults."""
    from assay.config.root import Config

    if document.get("schema", SCHEMA) != SCHEMA:
        raise UnfitInput(f"{path}: schema", repr(document["schema"])[:200], f"{SCHEMA}, as in assay.yaml")
    known = {field.alias or key for key, field in Config.model_fields.items()} | {"constraints"}
    for key in document:
        if key not in known:
            raise UnknownName(f"{path} key", str(key), known)
    return with_constraints(document).get(name) or {}
