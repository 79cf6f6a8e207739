"""All parts of an evaluation become the evidence that one machine would have made, with the same id.

A part is believed as far as evidence is: its evaluator signed it. What costs little is computed again all the same:
which records the models get right. What belongs to no single block, such as soundness, aspects and slices, is computed
here, from all blocks; the attempt is charged here, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay import lineage
from assay.config.base import parse, parse_json
from assay.config.evaluate import EvaluateConfig
from assay.config.root import Target
from assay.errors import UnfitInput
from assay.evaluate.blocks import block_rows
from assay.evaluate.champion import find_champion
from assay.evaluate.conclude import conclude, describe
from assay.evaluate.deliver import Places
from assay.evaluate.how import Begun, subjects
from assay.evaluate.ladder import right
from assay.evaluate.measured import Measured, champion_of
from assay.evaluate.outcomes import WRONG, Outcomes, merge
from assay.evaluate.part import Sheet, block_outcomes
from assay.evaluate.parts import Named, read_part, require_blocks, require_config, require_same, whole
from assay.evaluate.prepare import Prepared, prepare
from assay.evaluate.shard import plain, require_fixed
from assay.models.fit import deterministic

__all__ = ["merge_evidence", "merge_evidence_json"]


def merge_evidence(
    parts: Sequence[Path],
    model: Path,
    holdout: Path,
    *,
    evidence: Path,
    outcomes: Path,
    page: Path | None = None,
    sets: Mapping[str, str] | None = None,
    run: str = "",
) -> dict[str, Any]:
    """Make evidence of all parts of one evaluation; configuration and target are those that the parts were made with.

    Args:
        parts: one file a shard, in any order.
        model: model folder, the one that the parts speak of.
        holdout: dataset folder, likewise.
        evidence: the signed envelope to write.
        outcomes: Parquet to write, one row a record.
        page: HTML to write.
        sets: where the sets of other records lie on this machine, by name; those of the configuration by default.
        run: id of the pipeline run.

    Returns:
        As `assay.evaluate.step.evaluate`.

    Raises:
        UnfitInput: a part that is missing, doubled, broken, of another evaluation or made on another kind of machine.
        Refused: a part whose signature does not hold, where evidence is signed.
    """
    begun = Begun()
    with lineage.step("evaluate", run) as record, deterministic(1):
        given = whole([read_part(path, record.workspace) for path in parts])
        config, target = _asked(given[0], sets or {})
        prepared = prepare(model, holdout, config, target, record)
        champion = find_champion(record.workspace, target, prepared.candidate.digest) if target else ""
        for each in given:
            about = subjects(prepared.candidate, prepared.data, champion)
            require_same(each, about, plain(describe(prepared, prepared.data)))
            record.reads("shard", each.id, str(each.part.shard))
        found = _measured(given, prepared, champion, record)
        return conclude(prepared, found, Places(evidence, outcomes, page), record, _since(given, begun))


def merge_evidence_json(
    parts: Sequence[str], model: str, holdout: str, *, sets: str = "", run: str = "", **places: str
) -> dict[str, Any]:
    """`merge_evidence` with everything as text; ``sets`` is the section ``evaluate`` that says where they lie."""
    return merge_evidence(
        [Path(part) for part in parts],
        Path(model),
        Path(holdout),
        sets=parse_json(EvaluateConfig, sets, "evaluate").sets,
        run=run,
        **{name: Path(place) for name, place in places.items()},
    )


def _asked(first: Named, sets: Mapping[str, str]) -> tuple[EvaluateConfig, Target | None]:
    """What the parts were made with, and where the sets lie here."""
    config = parse(EvaluateConfig, dict(first.part.config), f"{first.name}: config")
    require_fixed(config)
    target = first.part.measured.get("target")
    here = config.model_copy(update={"sets": config.sets | {name: sets[name] for name in config.sets if name in sets}})
    return here, parse(Target, target, f"{first.name}: target") if target else None


def _measured(given: list[Named], prepared: Prepared, champion: str, record: lineage.StepRecord) -> Measured:
    data, plan = prepared.data, prepared.plan
    threats = tuple(threat.key for threat in plan.threats)
    sheet = Sheet(data.x, data.y, plan.block_records, len(prepared.candidate.spec.classes), threats, len(plan.ladder))
    outcomes, held = [], []
    for each in given:
        require_config(each, given[0])
        require_blocks(each, sheet, bool(champion))
        part = each.part
        outcomes.append(Outcomes(tuple(block_outcomes(part.blocks, part.examples, sheet, each.name))))
        held.append(Outcomes(tuple(block_outcomes(part.champion or (), (), sheet, f"{each.name}: champion"))))
    found = merge(outcomes, sheet.blocks)
    _require_answers(prepared.candidate.module, found, prepared, "model")
    _require_tallies(found)
    if not champion:
        return Measured(found)
    beside = merge(held, sheet.blocks)
    _require_answers(champion_of(champion, prepared.data, record).module, beside, prepared, "champion")
    return Measured(found, champion, beside)


def _require_answers(module: nn.Module, found: Outcomes, prepared: Prepared, who: str) -> None:
    """One pass over the clean records: what a part says the model answers is what it answers here.

    Raises:
        UnfitInput: another answer.
    """
    x, y = prepared.arrays()
    module = module.to(prepared.device)
    for block in found.blocks:
        rows = block_rows(block.index, len(y), prepared.plan.block_records)
        with torch.no_grad():
            logits = module(x[rows])
        predicted = torch.where(logits.isfinite().all(1), logits.argmax(1), -1).cpu()
        sure = right(module, x[rows], y[rows]).cpu()
        same = (predicted.numpy() == block.predicted).all()
        if not same or not all((sure.numpy() == (by != WRONG)).all() for by in block.by.values()):
            raise UnfitInput(f"parts: block {block.index}", f"answers that the {who} does not give", "its own")


def _require_tallies(found: Outcomes) -> None:
    """Every block counts the same things: what one does not count would pass for nothing found.

    Raises:
        UnfitInput: a count that a block lacks.
    """
    whole = [block for block in found.blocks if not block.tallies.get("truncated")]
    names = {name for block in whole for name in block.tallies}
    for block in whole:
        lacking = sorted(names - set(block.tallies))
        if lacking or block.tallies.get("records") != len(block.predicted):
            got = f"no count {lacking[0]}" if lacking else f"{block.tallies.get('records')} records"
            raise UnfitInput(f"parts: block {block.index}", got, "what every block counts, of all its records")


def _since(given: list[Named], begun: Begun) -> Begun:
    """As old as its oldest part: the gate counts the age of evidence from its end."""
    try:
        ended = min(datetime.fromisoformat(each.part.run["ended"]) for each in given)
        return replace(begun, ended=min(ended, datetime.now(UTC)))
    except (KeyError, TypeError, ValueError) as error:
        raise UnfitInput("parts: run: ended", f"{type(error).__name__}: {error}", "an instant with a zone") from error
