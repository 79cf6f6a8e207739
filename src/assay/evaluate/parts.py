"""Parts that belong together: read, believed as far as their signatures go, each shard once, of one evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assay.errors import UnfitInput
from assay.evaluate.part import KIND, Part, Sheet
from assay.evidence import payload_id
from assay.signing import read_envelope, unseal
from assay.workspace import Workspace

OWN = ("threads", "device", "sets")
"""Settings that may differ from part to part: they change no number, or name a place on one machine."""

__all__ = ["Named", "read_part", "require_blocks", "require_config", "require_same", "short", "whole"]


@dataclass(frozen=True)
class Named:
    """A part, what messages call it, and its id."""

    name: str
    id: str
    part: Part


def read_part(path: Path, workspace: Workspace) -> Named:
    """A part whose signature holds; where evidence is not signed, because there is no key, one without counts too."""
    data = read_envelope(path)
    opened = unseal(
        data,
        workspace.keyring,
        kind=KIND,
        role="evaluator",
        now=datetime.now(UTC),
        allow_unsigned=not workspace.signers("evaluator"),
        where=str(path),
    )
    return Named(str(path), payload_id(opened.statement), Part.from_statement(opened.statement, str(path)))


def whole(given: list[Named]) -> list[Named]:
    """Every shard of one division once, in order.

    Raises:
        UnfitInput: none, one that is missing or there twice, or shards of two divisions.
    """
    if not given:
        raise UnfitInput("parts", "none", "one a shard")
    of = given[0].part.shard.of
    seen: dict[int, str] = {}
    for each in given:
        number = each.part.shard.number
        if each.part.shard.of != of or number > of:
            raise UnfitInput(each.name, f"shard {each.part.shard}", f"one of {of}, as {given[0].name} is")
        if number in seen:
            raise UnfitInput(each.name, f"shard {each.part.shard} once more", f"each once; {seen[number]} is it too")
        seen[number] = each.name
    missing = sorted(set(range(1, of + 1)) - set(seen))
    if missing:
        raise UnfitInput("parts", f"{len(given)} of {of}", f"shard {', '.join(f'{n}/{of}' for n in missing[:10])} too")
    return sorted(given, key=lambda each: each.part.shard.number)


def require_same(each: Named, about: Mapping[str, str], measured: Mapping[str, Any]) -> None:
    """A part of this evaluation and of no other.

    Raises:
        UnfitInput: names what differs.
    """
    todo = "Measure all shards with one model, hold-out, configuration and release, on one kind of machine."
    for where, got, need in (("", each.part.subjects, about), ("measured.", each.part.measured, measured)):
        for name in sorted({*got, *need}):
            if got.get(name) != need.get(name):
                told = f"{where}{name} {short(got.get(name))}"
                raise UnfitInput(f"{each.name} (shard {each.part.shard})", told, short(need.get(name)), todo)


def short(value: Any) -> str:
    """A value for a message."""
    return "none" if value is None else str(value)[:120]


def require_config(each: Named, first: Named) -> None:
    """What decides numbers is set as in the first part.

    Raises:
        UnfitInput: names the setting.
    """
    for name in sorted({*each.part.config, *first.part.config} - {*OWN}):
        got, need = each.part.config.get(name), first.part.config.get(name)
        if got != need:
            raise UnfitInput(f"{each.name}: config: {name}", short(got), f"{short(need)}, as {first.name} has it")


def require_blocks(each: Named, sheet: Sheet, champion: bool) -> None:
    """Of the model, and of the champion where there is one, the blocks of its shard and no others.

    Raises:
        UnfitInput: a block too few or too many.
    """
    need = list(each.part.shard.blocks(sheet.blocks))
    for blocks in (each.part.blocks, each.part.champion if champion else each.part.blocks):
        got = [block.index for block in blocks or ()]
        if got != need:
            raise UnfitInput(f"{each.name}: blocks", str(got)[:120], f"those of shard {each.part.shard}, {need}"[:120])
