"""From what happened to every record to signed evidence: estimates, checks, aspects, the attempt, the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay import lineage
from assay.devices import device_name
from assay.effort import beside_training
from assay.estimate import RISK, Estimate
from assay.evaluate import slices, soundness, summary
from assay.evaluate.aspects.scene import Scene
from assay.evaluate.deliver import Places, publish
from assay.evaluate.holdout import Holdout, unseen
from assay.evaluate.how import Begun, how, subjects, trained_against
from assay.evaluate.look import look
from assay.evaluate.measured import Measured
from assay.evaluate.outcomes import outcomes_bytes
from assay.evaluate.page import write_page
from assay.evaluate.power import filter_power
from assay.evaluate.prepare import Prepared
from assay.evaluate.sequential import first
from assay.evidence import Evidence

__all__ = ["conclude", "describe"]


def conclude(
    prepared: Prepared, found: Measured, places: Places, record: lineage.StepRecord, begun: Begun
) -> dict[str, Any]:
    """Make evidence of what was measured, charge the attempt, write the files; returns the answer of the step."""
    config, plan, labels = prepared.config, prepared.plan, prepared.data.y
    said = _soundness(prepared, found, record)
    x, y = prepared.arrays()
    scene = Scene(
        prepared.candidate.module,
        prepared.candidate.spec,
        prepared.data,
        x,
        y,
        plan,
        found.outcomes,
        prepared.sets,
        config.confidence,
    )
    beside = look(prepared.aspects, scene, record.ledger)
    divided = slices.members(prepared.data, prepared.candidate.spec.classes, config.slices)
    data = first(prepared.data, len(found.outcomes.predicted))
    estimates = _estimates(prepared, found)
    estimates |= filter_power(prepared.candidate.spec.trained.dataset, record.ledger)
    estimates |= slices.estimates(found.outcomes, plan, divided, config.confidence)
    estimates |= beside.estimates
    made = Evidence(
        subjects=subjects(prepared.candidate, prepared.data, found.champion),
        estimates=estimates,
        measured=describe(prepared, data) | beside.how,
        soundness=said | beside.checks,
        truncated=found.truncated,
        run=begun.facts(record.run),
    )
    rows = outcomes_bytes(data.record_ids, data.y, found.outcomes, plan.names, found.champion_outcomes)

    def page(path: Path) -> None:
        write_page(path, made, found.outcomes, data, plan, config.confidence, labels, beside)

    return publish(made, rows, places, record, config, len(labels), target=prepared.target, write_page=page)


def _soundness(prepared: Prepared, found: Measured, record: lineage.StepRecord) -> dict[str, str]:
    data, plan = prepared.data, prepared.plan
    _, y = prepared.arrays()
    said = soundness.verdicts(found.outcomes, y[: len(found.outcomes.predicted)], plan, data.x[0].size)
    return said | {"holdout_unseen": unseen(data, prepared.candidate.spec.trained.dataset, record.ledger)}


def _estimates(prepared: Prepared, found: Measured) -> dict[str, Estimate]:
    config, plan = prepared.config, prepared.plan
    risk = RISK / max(1, len(config.decide))
    estimates = summary.estimates(found.outcomes, plan, config.confidence, prepared.data.y, risk)
    if found.champion_outcomes is not None:
        estimates |= summary.against_champion(found.outcomes, found.champion_outcomes, plan, config.confidence)
    return estimates


def describe(prepared: Prepared, data: Holdout) -> dict[str, Any]:
    """Everything that another measurement would have to share to give the same numbers."""
    config, plan = prepared.config, prepared.plan
    shared, against = how(config, data, plan), trained_against(prepared.candidate.spec.trained)
    sequential = {"decide": dict(config.decide), "risk": RISK, "population": len(prepared.data.y)}
    return shared | {
        "gradient_evaluations": round(sum(rung.cost for rung in plan.rungs), 3),
        "triggers": [dict(trigger) for trigger in config.triggers],
        "limit_s": config.limit_s,
        "budget": config.budget,
        "sequential": sequential if config.decide else None,
        "precision": config.precision,
        "device": device_name(prepared.device),
        "trained_against": against,
        "beside_training": beside_training(against, shared["attacks"]),
        "target": prepared.target.to_json() if prepared.target else None,
        "soundness": {
            "tolerance": soundness.TOLERANCE,
            "most_zero_gradients": soundness.MOST_ZERO_GRADIENTS,
            "passes_agree": soundness.PASSES_AGREE,
        },
    }
