"""What happened to every record: the mergeable state of an evaluation."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from assay.errors import UnfitInput

STANDS, WRONG = -1, 0

__all__ = ["STANDS", "WRONG", "BlockOutcome", "Example", "Ints", "Outcomes", "merge", "outcomes_bytes"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """A record that an attack broke, for people to see.

    Fields:
        row: position among the records measured.
        threat: key of the threat model.
        label, predicted: the true class and what the model says of ``x_adv``.
        share: what softmax gives the predicted class.
        x, x_adv: of the input's shape.
    """

    row: int
    threat: str
    label: int
    predicted: int
    share: float
    x: Floats
    x_adv: Floats


@dataclass(frozen=True)
class BlockOutcome:
    """One block.

    Fields:
        index: which block.
        predicted: (N,) the clean prediction; -1 where a logit is not finite.
        by: (N,) per threat key: `STANDS`, `WRONG` without any attack, or the number of the rung that broke it.
        tallies: integers that add up over blocks, for soundness checks, probes and curves.
        examples: some broken records.
    """

    index: int
    predicted: Ints
    by: Mapping[str, Ints]
    tallies: Mapping[str, int] = field(default_factory=dict)
    examples: Sequence[Example] = ()


@dataclass(frozen=True)
class Outcomes:
    """Blocks in order; of a shard, some of them.

    Fields:
        blocks: by index, ascending.
    """

    blocks: tuple[BlockOutcome, ...]

    @property
    def predicted(self) -> Ints:
        """(N,) the clean predictions."""
        return np.concatenate([block.predicted for block in self.blocks])

    @property
    def correct(self) -> Bools:
        """(N,) right without an attack; an evaluation without a threat has none."""
        return np.asarray(next(iter(self.by.values())) != WRONG)

    @property
    def by(self) -> dict[str, Ints]:
        """(N,) per threat key, what became of each record."""
        return {key: np.concatenate([block.by[key] for block in self.blocks]) for key in self.blocks[0].by}

    @property
    def tallies(self) -> Counter[str]:
        """The sums over all blocks."""
        total: Counter[str] = Counter()
        for block in self.blocks:
            total.update(block.tallies)
        return total

    def worst(self, threat: str, count: int) -> list[Example]:
        """Records that an attack turned into something else with the most confidence, the worst first."""
        found = [example for block in self.blocks for example in block.examples if example.threat == threat]
        return sorted(found, key=lambda example: (-example.share, example.row))[:count]


def merge(parts: Iterable[Outcomes], blocks: int) -> Outcomes:
    """All shards of one evaluation as if one machine had done it.

    Args:
        parts: in any order.
        blocks: how many blocks there are in all.

    Raises:
        UnfitInput: a block that is missing or was done twice.
    """
    found = sorted((block for part in parts for block in part.blocks), key=lambda block: block.index)
    if [block.index for block in found] != list(range(blocks)):
        raise UnfitInput("shards", f"the blocks {[block.index for block in found]}"[:200], f"each of {blocks} once")
    return Outcomes(tuple(found))


def outcomes_bytes(
    record_ids: Sequence[str],
    labels: Ints,
    outcomes: Outcomes,
    rungs: Sequence[str],
    champion: Outcomes | None = None,
) -> bytes:
    """Parquet bytes, one row a record: what McNemar's test and an audit need; equal outcomes give equal bytes."""
    names = {STANDS: "", WRONG: "no attack", **dict(enumerate(rungs, 1))}
    columns: dict[str, pa.Array] = {
        "record_id": pa.array(list(record_ids), pa.string()),
        "label": pa.array(labels),
        "predicted": pa.array(outcomes.predicted),
        "clean_correct": pa.array(outcomes.correct),
    }
    for key, by in outcomes.by.items():
        columns[f"robust/{key}"] = pa.array(by == STANDS)
        columns[f"broken_by/{key}"] = pa.array([names[int(number)] for number in by], pa.string())
    if champion is not None:
        columns["champion_clean_correct"] = pa.array(champion.correct)
        for key, by in champion.by.items():
            columns[f"champion_robust/{key}"] = pa.array(by == STANDS)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()
