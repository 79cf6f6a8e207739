"""One shard of an evaluation: a list of whole blocks, attacked as one machine would, written as a part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay import canonical, lineage
from assay.config.base import parse_json
from assay.config.evaluate import EvaluateConfig
from assay.config.root import Target
from assay.config.shard import Shard
from assay.data.files import write_file
from assay.errors import UnfitInput
from assay.evaluate.blocks import block_count
from assay.evaluate.conclude import describe
from assay.evaluate.how import Begun, subjects
from assay.evaluate.measured import Measured, measure_all
from assay.evaluate.part import EXAMPLE_BYTES, Part, blocks_of, shown_of
from assay.evaluate.prepare import Prepared, prepare
from assay.evidence import payload_id
from assay.models.fit import deterministic
from assay.signing import MAX_ENVELOPE_BYTES, seal

NUMBER_BYTES, BLOCK_BYTES = 6, 4096

__all__ = ["evaluate_shard", "evaluate_shard_json", "plain", "require_fixed"]


def evaluate_shard(
    model: Path,
    holdout: Path,
    config: EvaluateConfig,
    shard: Shard,
    *,
    part: Path,
    target: Target | None = None,
    run: str = "",
) -> dict[str, Any]:
    """Attack the blocks of one shard; `assay.evaluate.merge.merge_evidence` makes evidence of all parts.

    No number is shown and no attempt is charged: both happen when the parts are merged.

    Args:
        model: model folder.
        holdout: dataset folder; records the model did not learn from.
        config: as for one machine.
        shard: which blocks.
        part: the envelope to write.
        target: whose champion, if there is one, is measured on the same records.
        run: id of the pipeline run.

    Returns:
        part (path), part_id, shard, blocks, records {measured, of}.

    Raises:
        UnfitInput, Refused: as `assay.evaluate.step.evaluate`; an evaluation that stops once a verdict is fixed; more
            outcomes than one part holds.
    """
    begun = Begun()
    with lineage.step("evaluate_shard", run) as record, deterministic(1):
        require_fixed(config)
        prepared = prepare(model, holdout, config, target, record)
        count = block_count(len(prepared.data.y), prepared.plan.block_records)
        _require_room(prepared, shard, count)
        found = measure_all(prepared, record, shard.blocks(count))
        document = _part(prepared, found, shard, begun.facts(record.run)).to_statement()
        write_file(part, seal(document, record.workspace.signers("evaluator")))
        record.writes("shard", payload_id(document), str(shard))
    return {
        "part": str(part),
        "part_id": payload_id(document),
        "shard": str(shard),
        "blocks": len(found.outcomes.blocks),
        "records": {
            "measured": sum(len(block.predicted) for block in found.outcomes.blocks),
            "of": len(prepared.data.y),
        },
    }


def evaluate_shard_json(
    model: str, holdout: str, config: str, target: str, shard: str, *, part: str, run: str = ""
) -> dict[str, Any]:
    """`evaluate_shard` with everything as text, as a pipeline carries it; an empty target asks for no champion."""
    return evaluate_shard(
        Path(model),
        Path(holdout),
        parse_json(EvaluateConfig, config, "evaluate"),
        Shard.read(shard),
        part=Path(part),
        target=parse_json(Target, target, "target") if target else None,
        run=run,
    )


def plain(value: dict[str, Any]) -> dict[str, Any]:
    """A document as a reader of its canonical JSON sees it."""
    read: dict[str, Any] = canonical.loads(canonical.dumps(value))
    return read


def require_fixed(config: EvaluateConfig) -> None:
    """Which blocks a shard has is fixed before the first attack.

    Raises:
        UnfitInput: an evaluation that looks after each block whether it may stop.
    """
    if config.decide:
        raise UnfitInput(
            "evaluate.decide",
            "an evaluation that stops as soon as a verdict is fixed, in shards",
            "all records, or one machine",
            "Leave out decide, or shards: one that looks after each block cannot be shared out beforehand.",
        )


def _part(prepared: Prepared, found: Measured, shard: Shard, run: dict[str, Any]) -> Part:
    held = found.champion_outcomes
    return Part(
        subjects=subjects(prepared.candidate, prepared.data, found.champion),
        shard=shard,
        config=prepared.config.to_json(),
        measured=plain(describe(prepared, prepared.data)),
        blocks=blocks_of(found.outcomes),
        champion=None if held is None else blocks_of(held),
        examples=shown_of(found.outcomes, [threat.key for threat in prepared.plan.threats]),
        run=run,
    )


def _require_room(prepared: Prepared, shard: Shard, blocks: int) -> None:
    """Before the first attack: what is found has to fit into an envelope, whatever it will be."""
    numbers = (2 if prepared.target else 1) * (1 + len(prepared.plan.threats))
    block = NUMBER_BYTES * numbers * prepared.plan.block_records + BLOCK_BYTES
    room = (MAX_ENVELOPE_BYTES * 3 // 4 - EXAMPLE_BYTES * 4 // 3) // block
    if len(shard.blocks(blocks)) > room:
        raise UnfitInput(
            f"shard {shard}", f"{len(shard.blocks(blocks))} blocks", f"at most {room}", f"Make {-(-blocks // room)}."
        )
