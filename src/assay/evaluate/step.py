"""The step: a model and records no one trained on become signed evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay import lineage
from assay.config.base import parse_json
from assay.config.evaluate import EvaluateConfig
from assay.config.root import Target
from assay.evaluate.champion import champion_folder, find_champion
from assay.evaluate.conclude import Measured, Places, conclude
from assay.evaluate.holdout import require_fit
from assay.evaluate.how import Begun
from assay.evaluate.measure import measure
from assay.evaluate.prepare import Prepared, prepare
from assay.evaluate.sequential import measure_until
from assay.models.fit import deterministic
from assay.models.folder import load_model

__all__ = ["evaluate", "evaluate_json"]


def evaluate(
    model: Path,
    holdout: Path,
    config: EvaluateConfig,
    *,
    evidence: Path,
    outcomes: Path,
    page: Path | None = None,
    target: Target | None = None,
    run: str = "",
) -> dict[str, Any]:
    """Measure a model: clean and robust accuracy, backdoor success, the champion beside it, and how far to trust it.

    Args:
        model: model folder.
        holdout: dataset folder; records the model did not learn from.
        config: threats, attacks, triggers, seed.
        evidence: the signed envelope to write.
        outcomes: Parquet to write, one row a record.
        page: HTML to write.
        target: whose champion, if there is one, is measured on the same records.
        run: id of the pipeline run.

    Returns:
        evidence (path), evidence_id, estimates, sound, soundness, truncated, records {measured, of}.

    Raises:
        UnfitInput: a broken model or dataset, records that do not fit the model, an epsilon that does not fit the box.
        Refused: a model that does not replay its golden outputs, or a champion whose promotion does not verify.
    """
    begun = Begun()
    with lineage.step("evaluate", run) as record, deterministic(1):
        prepared = prepare(model, holdout, config, target, record)
        return conclude(prepared, _measure(prepared, record), Places(evidence, outcomes, page), record, begun)


def _measure(prepared: Prepared, record: lineage.StepRecord) -> Measured:
    config, plan, candidate = prepared.config, prepared.plan, prepared.candidate
    x, y = prepared.arrays()
    champion = find_champion(record.workspace, prepared.target, candidate.digest) if prepared.target else ""
    module = candidate.module.to(prepared.device)
    if config.decide and not champion:
        return Measured(measure_until(module, x, y, plan, config.decide, config.confidence, workers=prepared.workers))
    outcomes = measure(module, x, y, plan, workers=prepared.workers)
    if not champion:
        return Measured(outcomes)
    with champion_folder(record.ledger, champion) as folder:
        holder = load_model(folder)
    require_fit(prepared.data, holder.spec, "champion")
    record.reads("model", holder.digest, "champion")
    held = measure(holder.module.to(prepared.device), x, y, plan, checks=False, workers=prepared.workers)
    return Measured(outcomes, champion, held)


def evaluate_json(
    model: str, holdout: str, config: str, target: str = "", *, run: str = "", **places: str
) -> dict[str, Any]:
    """`evaluate` with everything as text, as a pipeline carries it; an empty target asks for no champion."""
    return evaluate(
        Path(model),
        Path(holdout),
        parse_json(EvaluateConfig, config, "evaluate"),
        target=parse_json(Target, target, "target") if target else None,
        run=run,
        **{name: Path(place) for name, place in places.items()},
    )
