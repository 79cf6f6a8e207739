"""A part of an evaluation: what the attacks did to some blocks, so that all parts together are evidence.

    subjects   model, holdout and, where there is one, champion, as evidence names them
    predicate  shard, config, measured: what all parts of one evaluation share, but for the shard's number
               blocks, champion: what became of every record, block by block
               examples: a few broken records for the page; run: host and times

An in-toto Statement in a DSSE envelope, signed by the evaluator. It holds outcomes and no estimate, and nothing that
decides reads one: it is no evidence.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pydantic

from assay.config.base import Section, parse
from assay.config.shard import Shard
from assay.errors import UnfitInput
from assay.evaluate.blocks import block_count, block_rows
from assay.evaluate.outcomes import STANDS, BlockOutcome, Example, Ints, Outcomes
from assay.signing import statement

KIND = "shard"
EXAMPLES = 6
EXAMPLE_BYTES = 4 * 2**20

Count = Annotated[int, pydantic.Field(strict=True, ge=0, lt=2**53)]
Number = Annotated[int, pydantic.Field(strict=True, ge=-1, lt=2**31)]
Digest = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]

__all__ = ["KIND", "Block", "Part", "Sheet", "block_outcomes", "blocks_of", "shown_of"]


class Block(Section):
    """One block, as `assay.evaluate.outcomes.BlockOutcome` has it."""

    index: Count
    predicted: tuple[Number, ...]
    by: dict[str, tuple[Number, ...]]
    tallies: dict[str, Count]


class Shown(Section):
    """One broken record: ``x_adv`` is base64 of little-endian float32 in the order of the input."""

    row: Count
    threat: str
    predicted: Count
    share: float
    x_adv: str


class Part(Section):
    """The predicate of a part, with its subjects.

    Fields:
        subjects: SHA-256 by name.
        shard: which.
        config: the section ``evaluate``.
        measured: how, as evidence says it.
        blocks, champion: what became of the records; no champion is null.
        examples: for the page.
        run: host and times; in no id.
    """

    subjects: dict[str, Digest]
    shard: Shard
    config: dict[str, Any]
    measured: dict[str, Any]
    blocks: tuple[Block, ...]
    champion: tuple[Block, ...] | None
    examples: tuple[Shown, ...]
    run: dict[str, Any]

    def to_statement(self) -> dict[str, Any]:
        """The in-toto Statement, ``run`` included."""
        predicate = self.to_json()
        return statement(KIND, predicate.pop("subjects"), predicate)

    @classmethod
    def from_statement(cls, document: dict[str, Any], where: str) -> Part:
        """Read a statement whose kind was checked.

        Raises:
            UnfitInput: anything missing, unknown or of another shape.
        """
        predicate = {key: value for key, value in document["predicate"].items() if key != "schema"}
        try:
            named = {entry["name"]: entry["digest"]["sha256"] for entry in document["subject"]}
        except (KeyError, TypeError) as error:
            raise UnfitInput(f"{where}: subject", f"{type(error).__name__}: {error}", "a name and a SHA-256") from error
        return parse(cls, predicate | {"subjects": named}, where)


@dataclass(frozen=True)
class Sheet:
    """What the blocks of a part have to fit.

    Fields:
        x: (N, ...) float32 the records.
        y: (N,) int64 the true classes.
        size: records a block.
        classes: how many the model tells apart.
        threats: their keys.
        rungs: how many the ladder has.
    """

    x: npt.NDArray[np.float32]
    y: Ints
    size: int
    classes: int
    threats: tuple[str, ...]
    rungs: int

    @property
    def blocks(self) -> int:
        """How many there are in all."""
        return block_count(len(self.y), self.size)


def blocks_of(outcomes: Outcomes) -> tuple[Block, ...]:
    """Outcomes as a part has them."""
    return tuple(
        Block(
            index=block.index,
            predicted=tuple(block.predicted.tolist()),
            by={key: tuple(by.tolist()) for key, by in block.by.items()},
            tallies={name: int(count) for name, count in block.tallies.items()},
        )
        for block in outcomes.blocks
    )


def block_outcomes(blocks: Sequence[Block], examples: Sequence[Shown], sheet: Sheet, where: str) -> list[BlockOutcome]:
    """Outcomes from what a part has.

    Raises:
        UnfitInput: a block beyond the last, of another length, or with other threats, rungs or classes.
    """
    found = [_block_outcome(block, sheet, f"{where}: block {block.index}") for block in blocks]
    begun: dict[int, list[Example]] = {block.index: [] for block in blocks}
    for shown in examples:
        example = _example(shown, sheet, f"{where}: example of record {shown.row}")
        if shown.row // sheet.size not in begun:
            raise UnfitInput(f"{where}: example", f"record {shown.row}", "one of the part's own blocks")
        begun[shown.row // sheet.size].append(example)
    return [
        BlockOutcome(block.index, block.predicted, block.by, block.tallies, tuple(begun[block.index]))
        for block in found
    ]


def shown_of(outcomes: Outcomes, threats: Sequence[str]) -> tuple[Shown, ...]:
    """The worst examples under every threat, as many as a page shows and a part has room for."""
    shown, room = [], EXAMPLE_BYTES
    for threat in threats:
        for example in outcomes.worst(threat, EXAMPLES):
            data = np.ascontiguousarray(example.x_adv, dtype="<f4").tobytes()
            room -= len(data)
            if room >= 0:
                said = {"row": example.row, "threat": threat, "predicted": example.predicted, "share": example.share}
                shown.append(Shown(**said, x_adv=base64.b64encode(data).decode()))
    return tuple(shown)


def _block_outcome(block: Block, sheet: Sheet, where: str) -> BlockOutcome:
    if block.index >= sheet.blocks:
        raise UnfitInput(where, "no such block", f"one of {sheet.blocks}")
    rows = block_rows(block.index, len(sheet.y), sheet.size)
    count = rows.stop - rows.start
    lengths = {len(block.predicted), *map(len, block.by.values())}
    if lengths != {count}:
        raise UnfitInput(where, f"{sorted(lengths)} records", f"{count}")
    if set(block.by) != set(sheet.threats):
        raise UnfitInput(where, f"threats {', '.join(sorted(block.by))}"[:200], ", ".join(sheet.threats))
    predicted = np.array(block.predicted, dtype=np.int64)
    by = {key: np.array(block.by[key], dtype=np.int64) for key in sheet.threats}
    if predicted.max() >= sheet.classes:
        raise UnfitInput(where, f"class {predicted.max()}", f"one of {sheet.classes}, or -1")
    if max(each.max() for each in by.values()) > sheet.rungs:
        raise UnfitInput(where, "an attack beyond the last", f"{STANDS} to {sheet.rungs}")
    return BlockOutcome(block.index, predicted, by, dict(block.tallies))


def _example(shown: Shown, sheet: Sheet, where: str) -> Example:
    if shown.row >= len(sheet.y) or shown.threat not in sheet.threats or shown.predicted >= sheet.classes:
        raise UnfitInput(where, f"threat {shown.threat}, class {shown.predicted}"[:200], "a record, threat and class")
    try:
        data = base64.b64decode(shown.x_adv, validate=True)
        x_adv = np.frombuffer(data, "<f4").reshape(sheet.x.shape[1:]).astype(np.float32)
    except (binascii.Error, ValueError) as error:
        raise UnfitInput(where, str(error), f"base64 of float32 of shape {sheet.x.shape[1:]}") from error
    if not np.isfinite(x_adv).all():
        raise UnfitInput(where, "a value that is not finite", "finite values")
    return Example(
        row=shown.row,
        threat=shown.threat,
        label=int(sheet.y[shown.row]),
        predicted=shown.predicted,
        share=shown.share,
        x=sheet.x[shown.row],
        x_adv=x_adv,
    )
