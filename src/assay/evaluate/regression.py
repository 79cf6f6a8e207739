"""The step for a model of quantities: mean errors as they are and at the worst point of every ball, with proof.

``worst_case_error/<threat>`` is the mean over the records of the greatest error inside ball and box. Its interval holds
the truth from both sides: the lower end from what attacks find, the upper end from what no attack can exceed. Of an
affine model both are the closed form; else the bound is by linear relaxation or by the Lipschitz constant, whichever is
less; where neither can be had it is the largest error that counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from assay import catalog, lineage, versions
from assay.attacks.geometry import Attack
from assay.attempts import charge
from assay.bernstein import enclosed_mean, mean_error, root_mean_square
from assay.config.evaluate import EvaluateConfig
from assay.config.root import Target
from assay.data.files import write_file
from assay.errors import AssayError, UnfitInput
from assay.estimate import Estimate
from assay.evaluate import soundness
from assay.evaluate.blocks import BLOCK_RECORDS, block_count, block_rows
from assay.evaluate.deliver import deliver
from assay.evaluate.holdout import Holdout, constraints_of, read_holdout, require_fit, unseen
from assay.evaluate.how import Begun, answer
from assay.evaluate.layers import Layer, layers_of
from assay.evaluate.lipschitz import lipschitz
from assay.evaluate.regression_page import write_regression_page
from assay.evaluate.worst_error import (
    Floats,
    Reached,
    attacked_error,
    attacks_of,
    joined,
    plane_reached,
    proof_of,
    reach,
)
from assay.evidence import Evidence, robust
from assay.models.fit import deterministic
from assay.models.folder import LoadedModel, load_model
from assay.models.spec import ModelSpec, read_spec
from assay.progress import track
from assay.threat import ThreatModel

__all__ = ["evaluate_regression", "gives_quantities"]


@dataclass(frozen=True)
class _Measured:
    """(N,) each: predictions; errors; per threat key what was reached there, and the error with half of its radius."""

    said: Floats
    error: Floats
    reached: Mapping[str, Reached]
    half: Mapping[str, Floats]
    tallies: Mapping[str, int]


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
        found = _measure(candidate, layers, data, threats, attacks, config)
        estimates = _estimates(found, threats, largest, config.confidence)
        checks = _checks(found, data, threats, attacks, largest)
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
        write_file(outcomes, _outcomes(data, found))
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


def _measure(
    candidate: LoadedModel,
    layers: Sequence[Layer] | None,
    data: Holdout,
    threats: Sequence[ThreatModel],
    attacks: Mapping[str, Attack],
    config: EvaluateConfig,
) -> _Measured:
    count = block_count(len(data.rows), BLOCK_RECORDS)
    once = {name: _once(each) for name, each in attacks.items()}

    def block(index: int) -> _Measured:
        rows = block_rows(index, len(data.rows), BLOCK_RECORDS)
        x, y = torch.from_numpy(data.x[rows]), targets[rows]
        said, tallies = _clean(candidate, x)
        there: dict[str, Any] = {"seed": config.seed, "block": index}
        found = {it.key: reach(candidate.module, layers, x, y, it, attacks, **there) for it in threats}
        half = {
            it.key: attacked_error(candidate.module, x, y, replace(it, epsilon=it.epsilon / 2), once, **there)
            for it in threats
            if it.norm != "l0"
        }
        return _Measured(said, np.abs(said - y), found, half, tallies)

    targets = data.targets
    with ThreadPoolExecutor(config.threads) as pool:
        return _joined(list(track(pool.map(block, range(count)), "attack", count)))


def _once(attack: Any) -> Attack:
    return cast(Attack, replace(attack, restarts=1) if hasattr(attack, "restarts") else attack)


def _clean(candidate: LoadedModel, x: torch.Tensor) -> tuple[Floats, dict[str, int]]:
    """Predictions of a block, and counts that the checks rest on."""
    with torch.no_grad():
        first, again = (
            candidate.module(x),
            torch.cat([candidate.module(part) for part in torch.split(x, -(-len(x) // 3))]),
        )
    at = x.clone().requires_grad_()
    with torch.enable_grad():
        gradient = torch.autograd.grad(candidate.module(at).sum(), at)[0].flatten(1)
    return np.asarray(first[:, 0].double().numpy()), {
        "not_finite": int((~first.isfinite()).sum()),
        "passes_differ": int(soundness.differ(first, again).sum()),
        "zero_gradient": int((~(gradient.isfinite().all(1) & (gradient != 0).any(1))).sum()),
    }


def _joined(parts: Sequence[_Measured]) -> _Measured:
    """All blocks, in order."""
    return _Measured(
        said=np.concatenate([part.said for part in parts]),
        error=np.concatenate([part.error for part in parts]),
        reached={key: joined([part.reached[key] for part in parts]) for key in parts[0].reached},
        half={key: np.concatenate([part.half[key] for part in parts]) for key in parts[0].half},
        tallies={name: sum(part.tallies[name] for part in parts) for name in parts[0].tallies},
    )


def _estimates(
    found: _Measured, threats: Sequence[ThreatModel], largest: float, confidence: float
) -> dict[str, Estimate]:
    made = {
        "mae": mean_error(found.error, largest, confidence),
        "rmse": root_mean_square(found.error, largest, confidence),
    }
    for threat in threats:
        there = found.reached[threat.key]
        made[robust("worst_case_error", threat)] = enclosed_mean(there.found, there.bound, largest, confidence)
        made[robust("error_under_attack", threat)] = mean_error(there.found, largest, confidence)
        made[robust("certified_error", threat)] = mean_error(there.bound, largest, confidence)
    return made


def _checks(
    found: _Measured, data: Holdout, threats: Sequence[ThreatModel], attacks: Mapping[str, Attack], largest: float
) -> dict[str, Any]:
    """What each check says of a regression.

    - ``finite_outputs``, ``attacks_stay_inside``, ``two_passes_agree``, ``zero_gradient_share``: as for classes.
    - ``attack_self_test``: on an affine model the attacks find the exact worst case of every threat they move in.
    - ``gradient_free_not_better``: a search that asks for outputs only raises the mean error by at most 2 %.
    - ``error_grows_with_epsilon``: with half of the radius no more is found than with all of it, up to 2 %.
    - ``certified_stand``: no error, and no change, beyond what is proven.
    - ``errors_within_bound``: no error, clean or under attack, beyond the largest that counts.
    """
    slack, moved = 1 + soundness.TOLERANCE, [threat for threat in threats if threat.norm != "l0"]
    every = [found.reached[threat.key] for threat in threats]
    pairs = [(found.half[threat.key], found.reached[threat.key].found) for threat in moved]
    return {
        "finite_outputs": not found.tallies["not_finite"] and all(np.isfinite(it.found).all() for it in every),
        "attacks_stay_inside": not sum(it.outside for it in every),
        "two_passes_agree": not found.tallies["passes_differ"],
        "zero_gradient_share": found.tallies["zero_gradient"] <= soundness.MOST_ZERO_GRADIENTS * len(data.rows),
        "attack_self_test": all(plane_reached(attacks, replace(it, constraints=None)) for it in moved)
        if moved
        else "not_measured",
        "gradient_free_not_better": all(
            np.maximum(it.followed, it.searched).mean() <= slack * it.followed.mean()
            for it in every
            if len(it.searched)
        ),
        "error_grows_with_epsilon": all(less.mean() <= slack * more.mean() for less, more in pairs)
        if pairs
        else "not_measured",
        "certified_stand": all((it.found <= it.bound).all() and (it.change <= it.limit).all() for it in every),
        "errors_within_bound": bool(
            (found.error <= largest).all() and all((it.found <= largest).all() for it in every)
        ),
    }


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
    found: _Measured,
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


def _outcomes(data: Holdout, found: _Measured) -> bytes:
    """Parquet bytes, one row a record."""
    columns = {
        "record_id": pa.array(data.record_ids, pa.string()),
        "label": pa.array(data.targets),
        "predicted": pa.array(found.said),
        "error": pa.array(found.error),
    }
    for key, it in found.reached.items():
        columns |= {f"error_found/{key}": pa.array(it.found), f"error_bound/{key}": pa.array(it.bound)}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return bytes(sink.getvalue())
