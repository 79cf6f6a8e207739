"""The step: a model and records no one trained on become signed evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay import lineage
from assay.config.base import parse_json
from assay.config.evaluate import EvaluateConfig
from assay.config.root import Target
from assay.evaluate.conclude import conclude
from assay.evaluate.deliver import Places
from assay.evaluate.how import Begun
from assay.evaluate.measured import measure_all
from assay.evaluate.prepare import prepare
from assay.evaluate.regression import conclude_regression, gives_quantities, measure_quantities
from assay.evaluate.regression_plan import prepare_regression
from assay.models.fit import deterministic

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
    begun, places = Begun(), Places(evidence, outcomes, page)
    with lineage.step("evaluate", run) as record, deterministic(1):
        if gives_quantities(model):
            quantities = prepare_regression(model, holdout, config, target, record)
            return conclude_regression(quantities, measure_quantities(quantities, record), places, record, begun)
        prepared = prepare(model, holdout, config, target, record)
        return conclude(prepared, measure_all(prepared, record), places, record, begun)


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
