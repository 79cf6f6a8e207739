"""What every section of the configuration shares: strict, frozen, and clear about what is wrong."""

from __future__ import annotations

from typing import Any, TypeVar

import pydantic

from assay import canonical
from assay.errors import UnfitInput, UnknownName, needed

__all__ = ["Section", "parse", "parse_json"]


class Section(pydantic.BaseModel):
    """Base of all sections: unknown keys are errors, numbers are finite, nothing changes after parsing."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    def to_json(self) -> dict[str, Any]:
        """Plain data for canonical JSON, defaults written out."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return canonical.digest(self.to_json())


S = TypeVar("S", bound=Section)


def parse(model: type[S], document: Any, where: str) -> S:
    """A section from plain data.

    Raises:
        UnknownName: a key that nobody knows; carries the nearest known one.
        UnfitInput: anything else that is wrong, with the place of it.
    """
    try:
        return model.model_validate(document)
    except pydantic.ValidationError as error:
        found = error.errors()
        first = next((it for it in found if it["type"] == "extra_forbidden"), found[0])  # url for uri: both are wrong
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _fields_at(model, first["loc"][:-1])
            raise UnknownName(f"{where} key", str(first["loc"][-1]), known) from error
        got = "nothing" if first["type"] == "missing" else repr(first.get("input"))[:200]
        raise UnfitInput(f"{where}: {place}" if place else where, got, needed(first["msg"])) from error


def parse_json(model: type[S], text: str, where: str) -> S:
    """A section from canonical JSON text, as pipeline parameters carry it; empty text is the default."""
    return parse(model, canonical.loads(text, where) if text else {}, where)


def _fields_at(model: type[pydantic.BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Names known at a place below a section; follows nested sections, lists and unions."""
    here: list[type[pydantic.BaseModel]] = [model]
    for part in place:
        if isinstance(part, int):
            continue
        inner = [m.model_fields[part].annotation for m in here if part in m.model_fields]
        here = [section for annotation in inner for section in _sections(annotation)] or here
    return sorted({field.alias or name for section in here for name, field in section.model_fields.items()})


def _sections(annotation: Any) -> list[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [found for inner in getattr(annotation, "__args__", ()) for found in _sections(inner)]
