"""Families and their members: a folder is a family, a file is a member.

``attack: pgd`` in a configuration is the one frozen dataclass of ``src/assay/attacks/pgd.py``. Nothing registers at
import time; adding a member touches one file. A family lists the modules that serve its members in ``HELPERS``; a
name that begins with an underscore is no member either.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

import pydantic

from assay.errors import AssayError, UnfitInput, UnknownName, needed

__all__ = ["build", "member", "names", "settings"]


def names(family: str) -> list[str]:
    """The members of a family, sorted, without importing any of them."""
    package = importlib.import_module(f"assay.{family}")
    helpers = getattr(package, "HELPERS", ())
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in found if not name.startswith("_") and name not in helpers)


def member(family: str, name: str) -> type[Any]:
    """The class behind a member's name.

    Raises:
        UnknownName: no such member; carries the nearest one.
    """
    known = names(family)
    if name not in known:
        raise UnknownName(family, name, known)
    module = importlib.import_module(f"assay.{family}.{name}")
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and dataclasses.is_dataclass(value)
        and not value.__name__.startswith("_")
    ]
    if len(own) != 1:
        raise AssayError(f"assay.{family}.{name}", f"{len(own)} public dataclasses", "exactly one, the member")
    return own[0]


def build(family: str, name: str, given: Mapping[str, Any] | None = None) -> Any:
    """A member with its settings, each checked for name and type.

    Args:
        family: the folder below ``assay``.
        name: the member's file.
        given: settings by field name; those left out take their defaults.

    Raises:
        UnknownName: no such member or setting.
        UnfitInput: a setting of another type than its field, or one that the member refuses.
    """
    cls = member(family, name)
    where = f"{family}.{name}"
    known = [field.name for field in dataclasses.fields(cls) if field.init]
    for key in given or {}:
        if key not in known:
            raise UnknownName(f"{where} setting", key, known)
    try:
        return pydantic.TypeAdapter(cls).validate_python(dict(given or {}))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "settings"
        got = "nothing" if first["type"] == "missing" else repr(first.get("input"))
        raise UnfitInput(f"{where}: {field}", got, needed(first["msg"])) from error


def settings(built: Any) -> dict[str, Any]:
    """The whole configuration of a built member: its fields, as plain data for canonical JSON."""
    return dataclasses.asdict(built)
