"""The step for a model of quantities: mean errors as they are and at the worst point of every ball, with proof.

``worst_case_error/<threat>`` is the mean over the records of the greatest error inside ball and box. Its interval holds
the truth from both sides: the lower end from what attacks find, the upper end from what no attack can exceed. Of an
affine model both are the closed form; else the bound is by linear relaxation or by the Lipschitz constant, whichever is
less; where neither can be had it is the largest error that counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from assay import catalog, lineage, versions
from assay.attacks.geometry import Attack
from assay.attempts import charge
from assay.config.evaluate import EvaluateConfig
from assay.config.root import Target
from assay.data.files import write_file
from assay.errors import AssayError, UnfitInput
from assay.evaluate import soundness
from assay.evaluate.blocks import BLOCK_RECORDS
from assay.evaluate.deliver import deliver
from assay.evaluate.holdout import Holdout, constraints_of, read_holdout, require_fit, unseen
from assay.evaluate.how import Begun, answer
from assay.evaluate.layers import Layer, layers_of
from assay.evaluate.lipschitz import lipschitz
from assay.evaluate.regression_measure import (
    RegressionMeasured,
    measure_regression,
    regression_checks,
    regression_estimates,
    regression_outcomes,
)
from assay.evaluate.regression_page import write_regression_page
from assay.evaluate.worst_error import (
    attacks_of,
    proof_of,
)
from assay.evidence import Evidence
from assay.models.fit import deterministic
from assay.models.folder import LoadedModel, load_model
from assay.models.spec import ModelSpec, read_spec
from assay.threat import ThreatModel

__all__ = ["evaluate_regression", "gives_quantities"]


def gives_quantities(model: Path) -> bool:
    """Whether a folder is a whole model without classes; what is wrong with another is for who loads it to say."""
    try:
        return read_spec(model).regression
    except AssayError:
        return False


def evaluate_regression(
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
    """Measure a model of quantities; arguments and answer as of `assay.evaluate.step.evaluate`.

    Raises:
        UnfitInput: no largest error, a setting that is about classes, records that do not fit, or an attack that looks
            for the border of a class.
    """
    begun = Begun()
    with lineage.step("evaluate", run) as record, deterministic(1):
        candidate = load_model(model)
        largest = _require_regression(config)
        data = read_holdout(holdout, config.limit, config.seed)
        require_fit(data, candidate.spec)
        layers, attacks = _layers(candidate), attacks_of(config.attacks)
        threats = _threats(config, candidate.spec, data, layers)
        record.uses(data.dataset, "holdout")
        record.reads("model", candidate.digest)
        found = measure_regression(candidate, layers, data, threats, attacks, config)
        estimates = regression_estimates(found, threats, largest, config.confidence)
        checks = regression_checks(found, data, threats, attacks, largest)
        checks["holdout_unseen"] = unseen(data, candidate.spec.trained.dataset, record.ledger)
        made = Evidence(
            subjects=_subjects(candidate, data),
            estimates=estimates,
            measured=_how(candidate, layers, data, threats, attacks, config, target, found),
            soundness={name: said if isinstance(said, str) else _verdict(said) for name, said in checks.items()},
            run=begun.facts(record.run),
        )
        if target is not None and record.workspace.signers("evaluator"):
            charge(record.ledger, made, target)  # before anybody can read a number
        write_file(outcomes, regression_outcomes(data, found))
        if page is not None:
            write_regression_page(page, made, found.error, {key: it.found for key, it in found.reached.items()})
            record.shows(page)
        deliver(made, evidence, record.workspace)
        record.writes("evidence", made.id)
        record.metrics |= {name: estimate.value for name, estimate in estimates.items()}
        record.params |= {"threats": ",".join(config.threats), "seed": config.seed}
    return answer(evidence, made, len(data.rows), len(data.rows))


def _require_regression(config: EvaluateConfig) -> float:
    for name in ("triggers", "aspects", "sets", "slices", "decide", "limit_s", "budget", "black_box"):
        if getattr(config, name):
            raise UnfitInput(f"evaluate.{name}", str(getattr(config, name))[:100], "none for a regression")
    if config.precision != "float32":
        raise UnfitInput("evaluate.precision", config.precision, "float32 for a regression")
    if config.regression is None:
        raise UnfitInput(
            "evaluate.regression",
            "nothing",
            "largest_error, in units of the label",
            "Without the largest error that counts no interval for a mean error holds; say --largest-error.",
        )
    return config.regression.largest_error


def _layers(candidate: LoadedModel) -> list[Layer] | None:
    try:
        return layers_of(candidate.module, candidate.spec.input_shape)
    except UnfitInput:  # other layers: what attacks find is all there is
        return None


def _threats(
    config: EvaluateConfig, spec: ModelSpec, data: Holdout, layers: Sequence[Layer] | None
) -> tuple[ThreatModel, ...]:
    constraints = constraints_of(config, data)
    threats = [replace(ThreatModel.parse(text, spec.bounds), constraints=constraints) for text in config.threats]
    for threat in threats:
        box = soundness.box_size(threat, data.x[0].size)
        if threat.epsilon > box:
            raise UnfitInput(f"threat {threat.key}: epsilon", f"{threat.epsilon}", f"at most the box, {box:g}")
        if threat.norm == "l0" and proof_of(layers, threat) != "exact":
            raise UnfitInput(f"threat {threat.key}", "l0", "linf, l2 or l1 for a model that is not affine")
    if len({threat.key for threat in threats}) != len(threats):
        raise UnfitInput("threats", ", ".join(config.threats), "each threat once")
    return tuple(threats)


def _verdict(holds: Any) -> str:
    return "holds" if holds else "misses"


def _subjects(candidate: LoadedModel, data: Holdout) -> dict[str, str]:
    named = {
        "model": candidate.digest,
        "holdout": data.dataset.manifest.digest,
        "dataset": candidate.spec.trained.dataset,
    }
    return {name: digest for name, digest in named.items() if digest}


def _how(
    candidate: LoadedModel,
    layers: Sequence[Layer] | None,
    data: Holdout,
    threats: Sequence[ThreatModel],
    attacks: Mapping[str, Attack],
    config: EvaluateConfig,
    target: Target | None,
    found: RegressionMeasured,
) -> dict[str, Any]:
    trained, regression = candidate.spec.trained, config.regression
    return {
        "task": "regression",
        "regression": (regression.to_json() if regression else {})
        | {
            "lipschitz_bound": None if layers is None else lipschitz(layers),
            "proof": {threat.key: proof_of(layers, threat) for threat in threats},
            "largest_change": {key: float(it.change.max()) for key, it in found.reached.items()},
        },
        "threats": {threat.key: threat.to_json() for threat in threats},
        "primary": threats[0].key,
        "attacks": {name: catalog.settings(attack) for name, attack in attacks.items()},
        "holdout_content": data.dataset.manifest.content_digest,
        "records": len(data.rows),
        "limit": config.limit,
        "block_records": BLOCK_RECORDS,
        "seed": config.seed,
        "confidence": config.confidence,
        "threads": torch.get_num_threads(),
        "device": "cpu",
        "versions": versions.machine(),
        "code": versions.code_digest(),
        "image": versions.image(),
        "trained_against": {
            "method": trained.method,
            "threat": trained.threat,
            "attack": trained.config.get("method", {}),
        },
        "target": target.to_json() if target else None,
    }
