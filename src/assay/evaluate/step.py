"""The step: a model and records no one trained on become signed evidence."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from assay import catalog, lineage, versions
from assay.attacks.geometry import MOVES
from assay.attempts import charge
from assay.config.base import parse_json
from assay.config.evaluate import EvaluateConfig
from assay.config.root import Target
from assay.constraints import Constraints
from assay.data.files import write_file
from assay.errors import UnfitInput
from assay.estimate import RISK, Estimate
from assay.evaluate import slices, soundness, summary
from assay.evaluate.aspects.scene import Scene
from assay.evaluate.champion import champion_folder, find_champion
from assay.evaluate.deliver import deliver
from assay.evaluate.fast import supports_bfloat16
from assay.evaluate.holdout import Holdout, constraints_of, read_holdout, read_sets, require_fit, unseen
from assay.evaluate.ladder import Rung, ladder
from assay.evaluate.look import aspects, look
from assay.evaluate.measure import Plan, measure
from assay.evaluate.outcomes import Ints, Outcomes, outcomes_bytes
from assay.evaluate.page import write_page
from assay.evaluate.power import filter_power
from assay.evaluate.probes import read_triggers
from assay.evaluate.sequential import LOOK_RECORDS, first, measure_until, shuffled
from assay.evidence import Evidence
from assay.models.fit import deterministic
from assay.models.folder import LoadedModel, load_model
from assay.models.spec import ModelSpec
from assay.threat import ThreatModel

__all__ = ["evaluate", "evaluate_json", "make_plan"]


@dataclass(frozen=True)
class _Measured:
    """All that one evaluation found."""

    outcomes: Outcomes
    champion: str
    champion_outcomes: Outcomes | None
    soundness: dict[str, str]

    @property
    def truncated(self) -> bool:
        """Time ran out, for the model or its champion."""
        return any(each.tallies["truncated"] for each in (self.outcomes, self.champion_outcomes) if each is not None)


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
    started, clock = datetime.now(UTC), time.monotonic()
    if config.black_box is not None:
        raise UnfitInput("evaluate.black_box", "settings of a black box", "none for a model folder")
    with lineage.step("evaluate", run) as record, deterministic(1):
        candidate = load_model(model)
        data = read_holdout(holdout, config.limit, config.seed)
        require_fit(data, candidate.spec)
        plan = make_plan(config, candidate.spec, constraints_of(config, data))
        built = aspects(config.aspects, config.sets)
        sets = read_sets(config.sets, candidate.spec)
        record.uses(data.dataset, "holdout")
        for name, other in sets.items():
            record.uses(other.dataset, f"set-{name}")
        record.reads("model", candidate.digest)
        if config.decide:
            data, plan = shuffled(data, config.seed), replace(plan, block_records=LOOK_RECORDS)
        found, labels = _measure(candidate, data, plan, config, target, record), data.y
        x, y = _arrays(data, config)
        scene = Scene(candidate.module, candidate.spec, data, x, y, plan, found.outcomes, sets, config.confidence)
        beside = look(built, scene, record.ledger)
        divided = slices.members(data, candidate.spec.classes, config.slices)
        data = first(data, len(found.outcomes.predicted))
        estimates = _estimates(found, plan, config, labels)
        estimates |= filter_power(candidate.spec.trained.dataset, record.ledger)
        estimates |= slices.estimates(found.outcomes, plan, divided, config.confidence)
        estimates |= beside.estimates
        made = Evidence(
            subjects=_subjects(candidate, data, found.champion),
            estimates=estimates,
            measured=_how(candidate, data, plan, config, target, len(labels)) | beside.how,
            soundness=found.soundness | beside.checks,
            truncated=found.truncated,
            run={
                "run_id": record.run,
                "started": started.isoformat(timespec="seconds"),
                "ended": datetime.now(UTC).isoformat(timespec="seconds"),
                "host": platform.node(),
                "seconds": round(time.monotonic() - clock, 3),
            },
        )
        if target is not None and record.workspace.signers("evaluator"):
            charge(record.ledger, made, target)  # before anybody can read a number
        rows = outcomes_bytes(data.record_ids, data.y, found.outcomes, plan.names, found.champion_outcomes)
        write_file(outcomes, rows)
        if page is not None:
            write_page(page, made, found.outcomes, data, plan, config.confidence, labels, beside)
            record.shows(page)
        deliver(made, evidence, record.workspace)
        record.writes("evidence", made.id)
        record.metrics |= {name: estimate.value for name, estimate in estimates.items()}
        record.params |= {"threats": ",".join(config.threats), "seed": config.seed}
    return {
        "evidence": str(evidence),
        "evidence_id": made.id,
        "estimates": {name: estimate.to_json() for name, estimate in estimates.items()},
        "sound": made.sound,
        "soundness": made.soundness,
        "truncated": made.truncated,
        "records": {"measured": len(data.rows), "of": len(labels)},
    }


def make_plan(config: EvaluateConfig, spec: ModelSpec, constraints: Constraints | None = None) -> Plan:
    """The plan for a model: threats in its box, attacks built, triggers that fit its input.

    Raises:
        UnfitInput: an epsilon of 0 or beyond the box, a threat given twice, or a trigger that does not fit.
    """
    features = int(torch.Size(spec.input_shape).numel())
    balls = (ThreatModel.parse(text, spec.bounds) for text in config.threats)
    threats = tuple(replace(ball, constraints=constraints) for ball in balls)
    for threat in threats:
        box = soundness.box_size(threat, features)
        if threat.epsilon > box:
            raise UnfitInput(f"threat {threat.key}: epsilon", f"{threat.epsilon}", f"at most the box, {box:g}")
    if len({threat.key for threat in threats}) != len(threats):
        raise UnfitInput("threats", ", ".join(config.threats), "each threat once")
    rungs = ladder(config.attacks)
    _require_norms(rungs, threats)
    triggers = read_triggers(config.triggers)
    for trigger in triggers:
        trigger.require_fit(spec.input_shape, spec.bounds, len(spec.classes))
    half = config.precision == "bfloat16"
    if half and _device(config).type == "cpu" and not supports_bfloat16():
        raise UnfitInput("evaluate.precision", "bfloat16 on a CPU that does not multiply in it", "float32")
    return Plan(
        threats=threats,
        rungs=rungs,
        seed=config.seed,
        triggers=triggers,
        limit_s=config.limit_s,
        budget=config.budget,
        bfloat16=half,
    )


def _require_norms(rungs: Sequence[Rung], threats: Sequence[ThreatModel]) -> None:
    """Every attack must answer for every threat: one left out would leave a gap that no estimate shows.

    Raises:
        UnfitInput: an attack that does not move in the norm of a threat.
    """
    for rung in rungs:
        norms = getattr(rung.attack, "norms", MOVES)
        for threat in threats:
            if threat.norm not in norms:
                todo = "Measure this threat with other attacks, in an evaluation of its own."
                raise UnfitInput(f"attacks.{rung.name}", f"threat {threat.key}", " or ".join(norms), todo)


def _measure(
    candidate: LoadedModel,
    data: Holdout,
    plan: Plan,
    config: EvaluateConfig,
    target: Target | None,
    record: lineage.StepRecord,
) -> _Measured:
    device = _device(config)
    x, y = _arrays(data, config)
    champion = find_champion(record.workspace, target, candidate.digest) if target else ""
    workers = config.threads if device.type == "cpu" else 1
    module = candidate.module.to(device)
    if config.decide and not champion:
        outcomes = measure_until(module, x, y, plan, config.decide, config.confidence, workers=workers)
        x, y = x[: len(outcomes.predicted)], y[: len(outcomes.predicted)]
    else:
        outcomes = measure(module, x, y, plan, workers=workers)
    said = soundness.verdicts(outcomes, y, plan, x[0].numel())
    said["holdout_unseen"] = unseen(data, candidate.spec.trained.dataset, record.ledger)
    if not champion:
        return _Measured(outcomes, "", None, said)
    with champion_folder(record.ledger, champion) as folder:
        holder = load_model(folder)
    require_fit(data, holder.spec, "champion")
    record.reads("model", holder.digest, "champion")
    held = measure(holder.module.to(device), x, y, plan, checks=False, workers=workers)
    return _Measured(outcomes, champion, held, said)


def _arrays(data: Holdout, config: EvaluateConfig) -> tuple[torch.Tensor, torch.Tensor]:
    device = _device(config)
    return torch.from_numpy(data.x).to(device), torch.from_numpy(data.y).to(device)


def _estimates(found: _Measured, plan: Plan, config: EvaluateConfig, labels: Ints) -> dict[str, Estimate]:
    risk = RISK / max(1, len(config.decide))
    estimates = summary.estimates(found.outcomes, plan, config.confidence, labels, risk)
    if found.champion_outcomes is not None:
        estimates |= summary.against_champion(found.outcomes, found.champion_outcomes, plan, config.confidence)
    return estimates


def _subjects(candidate: LoadedModel, data: Holdout, champion: str) -> dict[str, str]:
    named = {
        "model": candidate.digest,
        "holdout": data.dataset.manifest.digest,
        "dataset": candidate.spec.trained.dataset,
        "champion": champion,
    }
    return {name: digest for name, digest in named.items() if digest}


def _how(
    candidate: LoadedModel,
    data: Holdout,
    plan: Plan,
    config: EvaluateConfig,
    target: Target | None,
    population: int,
) -> dict[str, Any]:
    """Everything that another measurement would have to share to give the same numbers."""
    trained = candidate.spec.trained
    return {
        "threats": {threat.key: threat.to_json() for threat in plan.threats},
        "primary": plan.threats[0].key,
        "attacks": {
            rung.name: catalog.settings(rung.attack) | ({"restarts": rung.restarts} if rung.restarts > 1 else {})
            for rung in plan.ladder
        },
        "gradient_evaluations": round(sum(rung.cost for rung in plan.rungs), 3),
        "triggers": [dict(trigger) for trigger in config.triggers],
        "holdout_content": data.dataset.manifest.content_digest,
        "records": len(data.rows),
        "limit": config.limit,
        "limit_s": config.limit_s,
        "budget": config.budget,
        "sequential": {"decide": dict(config.decide), "risk": RISK, "population": population}
        if config.decide
        else None,
        "block_records": plan.block_records,
        "precision": config.precision,
        "seed": config.seed,
        "confidence": config.confidence,
        "threads": torch.get_num_threads(),
        "device": _device_name(config),
        "versions": versions.machine(),
        "code": versions.code_digest(),
        "image": versions.image(),
        "trained_against": {
            "method": trained.method,
            "threat": trained.threat,
            "attack": trained.config.get("method", {}),
        },
        "target": target.to_json() if target else None,
        "soundness": {
            "tolerance": soundness.TOLERANCE,
            "most_zero_gradients": soundness.MOST_ZERO_GRADIENTS,
            "passes_agree": soundness.PASSES_AGREE,
        },
    }


def _device(config: EvaluateConfig) -> torch.device:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UnfitInput("evaluate.device", "cuda, and there is none", "a CUDA device", "Set device: auto or cpu.")
    return torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")


def _device_name(config: EvaluateConfig) -> str:
    device = _device(config)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


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
