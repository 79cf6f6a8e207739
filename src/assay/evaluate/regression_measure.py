"""What happens to every record of a regression, what follows from it, and whether it is to be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from assay.attacks.geometry import Attack
from assay.bernstein import enclosed_mean, error_difference, mean_error, root_mean_square
from assay.estimate import Estimate
from assay.evaluate import soundness
from assay.evaluate.blocks import block_count, block_rows
from assay.evaluate.holdout import Holdout
from assay.evaluate.layers import Layer
from assay.evaluate.lipschitz import lipschitz
from assay.evaluate.regression_plan import RegressionPlan
from assay.evaluate.slices import sliced
from assay.evaluate.worst_error import (
    Floats,
    Reached,
    attacked_error,
    joined,
    plane_reached,
    proof_of,
    reach,
)
from assay.evidence import minus_champion, robust
from assay.models.folder import LoadedModel
from assay.progress import track
from assay.threads import in_threads
from assay.threat import ThreatModel

ALL = slice(None)

__all__ = [
    "RegressionMeasured",
    "differences",
    "join_blocks",
    "measure_regression",
    "passes",
    "regression_checks",
    "regression_estimates",
    "regression_facts",
    "regression_outcomes",
    "slice_estimates",
]


@dataclass(frozen=True)
class RegressionMeasured:
    """(N,) each: predictions; errors; per threat key what was reached there, and the error with half of its radius."""

    said: Floats
    error: Floats
    reached: Mapping[str, Reached]
    half: Mapping[str, Floats]
    tallies: Mapping[str, int]


def measure_regression(
    candidate: LoadedModel,
    layers: Sequence[Layer] | None,
    data: Holdout,
    plan: RegressionPlan,
    *,
    workers: int = 1,
    checks: bool = True,
) -> RegressionMeasured:
    """Ask and attack the model, block by block; ``layers`` are None where nothing can be proven of it.

    Without ``checks`` nothing is measured at half of the radius: a champion's numbers are compared, not vouched for.
    """
    count = block_count(len(data.rows), plan.block_records)
    once = {name: _once(each) for name, each in plan.attacks.items()}

    def block(index: int) -> RegressionMeasured:
        rows = block_rows(index, len(data.rows), plan.block_records)
        x, y = torch.from_numpy(data.x[rows]), targets[rows]
        said, tallies = passes(candidate.module, x)
        tallies["zero_gradient"] = _flat(candidate.module, x)
        there: dict[str, Any] = {"seed": plan.seed, "block": index}
        found = {it.key: reach(candidate.module, layers, x, y, it, plan.attacks, **there) for it in plan.threats}
        half = {
            it.key: attacked_error(candidate.module, x, y, replace(it, epsilon=it.epsilon / 2), once, **there)
            for it in plan.threats
            if checks and it.norm != "l0"
        }
        return RegressionMeasured(said, np.abs(said - y), found, half, tallies)

    targets = data.targets
    with in_threads(workers) as each:
        return join_blocks(list(track(each(block, range(count)), "attack", count)))


def _once(attack: Any) -> Attack:
    return cast(Attack, replace(attack, restarts=1) if hasattr(attack, "restarts") else attack)


def passes(model: nn.Module, x: torch.Tensor) -> tuple[Floats, dict[str, int]]:
    """Predictions of a block, (N,), and counts that checks rest on which need no gradient; two passes."""
    with torch.no_grad():
        first, again = model(x), torch.cat([model(part) for part in torch.split(x, -(-len(x) // 3))])
    return np.asarray(first[:, 0].double().numpy()), {
        "not_finite": int((~first.isfinite()).sum()),
        "passes_differ": int(soundness.differ(first, again).sum()),
    }


def _flat(model: nn.Module, x: torch.Tensor) -> int:
    """On how many records the gradient is zero, or no number."""
    at = x.clone().requires_grad_()
    with torch.enable_grad():
        gradient = torch.autograd.grad(model(at).sum(), at)[0].flatten(1)
    return int((~(gradient.isfinite().all(1) & (gradient != 0).any(1))).sum())


def join_blocks(parts: Sequence[RegressionMeasured]) -> RegressionMeasured:
    """All blocks, in order."""
    return RegressionMeasured(
        said=np.concatenate([part.said for part in parts]),
        error=np.concatenate([part.error for part in parts]),
        reached={key: joined([part.reached[key] for part in parts]) for key in parts[0].reached},
        half={key: np.concatenate([part.half[key] for part in parts]) for key in parts[0].half},
        tallies={name: sum(part.tallies[name] for part in parts) for name in parts[0].tallies},
    )


def regression_estimates(
    found: RegressionMeasured,
    plan: RegressionPlan,
    confidence: float,
    of: npt.NDArray[np.bool_] | slice = ALL,
) -> dict[str, Estimate]:
    """``mae``, ``rmse``, and of every threat the worst error, what attacks found of it and what is proven.

    Of all records, or of those that ``of`` (N,) chooses.
    """
    error, largest = found.error[of], plan.largest
    made = {
        "mae": mean_error(error, largest, confidence),
        "rmse": root_mean_square(error, largest, confidence),
    }
    for threat in plan.threats:
        there = found.reached[threat.key]
        less, more = there.found[of], there.bound[of]
        made[robust("worst_case_error", threat)] = enclosed_mean(less, more, largest, confidence)
        made[robust("error_under_attack", threat)] = mean_error(less, largest, confidence)
        made[robust("certified_error", threat)] = mean_error(more, largest, confidence)
    return made


def slice_estimates(
    found: RegressionMeasured, plan: RegressionPlan, divided: Mapping[str, Sequence[str]], confidence: float
) -> dict[str, Estimate]:
    """The same of every part, such as ``mae[source=vendor]``; ``divided`` as `assay.evaluate.slices.members` gives it.

    Every interval has the confidence by itself: a rule that asks for a bar in every part passes no more often for it.
    """
    made: dict[str, Estimate] = {}
    for by, names in divided.items():
        every = np.array(names)
        for name in sorted(set(names)):
            part = regression_estimates(found, plan, confidence, every == name)
            made |= {sliced(whole, by, name): estimate for whole, estimate in part.items()}
    return made


def differences(
    found: RegressionMeasured, champion: RegressionMeasured, plan: RegressionPlan, confidence: float
) -> dict[str, Estimate]:
    """How much greater the mean errors are than the champion's, record by record; below 0 where the model is better.

    Of every mean error of `regression_estimates`; the root mean square is no mean of anything that could be paired.
    """

    def than(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> Estimate:
        return error_difference(first, second, plan.largest, confidence)

    made = {minus_champion("mae"): than((found.error, found.error), (champion.error, champion.error))}
    for threat in plan.threats:
        ours, theirs = found.reached[threat.key], champion.reached[threat.key]
        for name, first, second in (
            ("worst_case_error", (ours.found, ours.bound), (theirs.found, theirs.bound)),
            ("error_under_attack", (ours.found, ours.found), (theirs.found, theirs.found)),
            ("certified_error", (ours.bound, ours.bound), (theirs.bound, theirs.bound)),
        ):
            made[robust(minus_champion(name), threat)] = than(first, second)
    return made


def regression_checks(found: RegressionMeasured, plan: RegressionPlan) -> dict[str, str]:
    """What each check says of a regression.

    - ``finite_outputs``, ``attacks_stay_inside``, ``two_passes_agree``, ``zero_gradient_share``: as for classes.
    - ``attack_self_test``: on an affine model the attacks find the exact worst case of every threat they move in; of a
      model that can only be asked, on average over the records.
    - ``gradient_free_not_better``: a search that asks for outputs only raises the mean error by at most 2 %.
    - ``error_grows_with_epsilon``: with half of the radius, where it was tried, no more is found, up to 2 %.
    - ``certified_stand``: no error, and no change, beyond what is proven.
    - ``errors_within_bound``: no error, clean or under attack, beyond the largest that counts.
    """
    slack, moved = 1 + soundness.TOLERANCE, [threat for threat in plan.threats if threat.norm != "l0"]
    every = [found.reached[threat.key] for threat in plan.threats]
    looked = [it for it in every if len(it.searched)]
    halves = {threat.key: found.half[threat.key] for threat in moved}
    pairs = [(less, found.reached[key].found[: len(less)]) for key, less in halves.items()]
    said: dict[str, bool | None] = {
        "finite_outputs": not found.tallies["not_finite"] and all(np.isfinite(it.found).all() for it in every),
        "attacks_stay_inside": not sum(it.outside for it in every),
        "two_passes_agree": not found.tallies["passes_differ"],
        "zero_gradient_share": found.tallies.get("zero_gradient", 0) <= soundness.MOST_ZERO_GRADIENTS * len(found.said),
        "attack_self_test": all(plane_reached(plan.attacks, _ball(it), it.knowledge == "black-box") for it in moved)
        if moved
        else None,
        "gradient_free_not_better": all(
            np.maximum(it.followed, it.searched).mean() <= slack * it.followed.mean() for it in looked
        )
        if len(looked) == len(every)
        else None,
        "error_grows_with_epsilon": all(less.mean() <= slack * more.mean() for less, more in pairs) if pairs else None,
        "certified_stand": all((it.found <= it.bound).all() and (it.change <= it.limit).all() for it in every),
        "errors_within_bound": bool((found.error <= plan.largest).all())
        and all((it.found <= plan.largest).all() for it in every),
    }
    return {name: "not_measured" if it is None else "holds" if it else "misses" for name, it in said.items()}


def _ball(threat: ThreatModel) -> ThreatModel:
    """The ball alone, whoever knows what."""
    return replace(threat, constraints=None, knowledge="white-box", query_budget=None)


def regression_facts(found: RegressionMeasured, plan: RegressionPlan, layers: Sequence[Layer] | None) -> dict[str, Any]:
    """What evidence says of a model of quantities alone; a change that was not finite is null."""
    changes = {key: float(it.change.max()) for key, it in found.reached.items()}
    facts = {
        "largest_error": plan.largest,
        "lipschitz_bound": None if layers is None else lipschitz(layers),
        "proof": {threat.key: proof_of(layers, threat) for threat in plan.threats},
        "largest_change": {key: it if math.isfinite(it) else None for key, it in changes.items()},
    }
    return {"task": "regression", "regression": facts}


def regression_outcomes(data: Holdout, found: RegressionMeasured, champion: RegressionMeasured | None = None) -> bytes:
    """Parquet bytes, one row a record."""
    columns = {"record_id": pa.array(data.record_ids, pa.string()), "label": pa.array(data.targets)}
    for whose, measured in {"": found, "champion_": champion}.items():
        if measured is None:
            continue
        columns |= {f"{whose}predicted": pa.array(measured.said), f"{whose}error": pa.array(measured.error)}
        for key, it in measured.reached.items():
            columns[f"{whose}error_found/{key}"] = pa.array(it.found)
            columns[f"{whose}error_bound/{key}"] = pa.array(it.bound)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return bytes(sink.getvalue())
