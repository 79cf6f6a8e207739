"""A black box that answers quantities: the greatest error that a search finds to either side, within a query budget.

Nothing is proven of a model that can only be asked, so the upper end of ``worst_case_error`` is the largest error that
counts; ``error_under_attack`` is what this search found, under a threat that says how often it asked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from assay.attacks.geometry import MOVES, Attack
from assay.blackbox.predict import Asked
from assay.config.black_box import BlackBoxConfig
from assay.config.evaluate import EvaluateConfig
from assay.errors import UnfitInput
from assay.evaluate.black_box_blocks import CHECKED, white
from assay.evaluate.black_box_plan import BESIDE, asking, black_box_threats, require_queries
from assay.evaluate.blocks import block_count, block_rows
from assay.evaluate.holdout import Holdout, constraints_of
from assay.evaluate.ladder import Rung
from assay.evaluate.regression_measure import RegressionMeasured, join_blocks, passes, regression_checks
from assay.evaluate.regression_plan import RegressionPlan, largest_error_of
from assay.evaluate.worst_error import Floats, Reached, attacked_error, ends, farthest
from assay.progress import track
from assay.threat import ThreatModel

NEED_MORE = ("zero_gradient_share", "gradient_free_not_better", "certified_stand", "holdout_unseen")
"""Checks that need a gradient, a proof or the records that the model learned from."""

__all__ = ["ask_quantities", "make_quantities_plan", "may_ask_quantities", "quantity_verdicts"]


def make_quantities_plan(config: EvaluateConfig, box: BlackBoxConfig, data: Holdout) -> RegressionPlan:
    """Threats with their query budget, and the attacks that keep to it: half of an attack's queries to either side.

    Raises:
        UnfitInput: no largest error, answers that are no scores, an attack that follows the gradient or looks for the
            border of a class, that does not move in a threat's norm, or that may ask more than the budget.
    """
    largest = largest_error_of(config)
    if box.answers != "scores":
        raise UnfitInput("black_box.answers", box.answers, "scores, for a model of quantities")
    threats = black_box_threats(config, box, data.x[0].size, constraints_of(config, data))
    attacks = {rung.name: _sided(rung, threats) for rung in asking(config, box)}
    require_queries(BESIDE + sum(2 * (_queries(attack) + BESIDE) for attack in attacks.values()), box)
    return RegressionPlan(threats, attacks, config.seed, largest)


def may_ask_quantities(records: int, plan: RegressionPlan, queries: int) -> int:
    """The most queries that a measurement may take: so many for a record and threat, and as many for the check."""
    return queries * len(plan.threats) * (records + min(records, CHECKED))


def ask_quantities(asked: Asked, data: Holdout, plan: RegressionPlan) -> tuple[RegressionMeasured, int]:
    """Attack all records, the first block first; returns what was found, and the queries of the check."""
    count = block_count(len(data.rows), plan.block_records)
    x, y, parts = torch.from_numpy(data.x), data.targets, []
    for index in track(range(count), "attack", count):
        rows = block_rows(index, len(y), plan.block_records)
        parts.append(_block(asked, x[rows], y[rows], plan, index))
    before, first = asked.queries, slice(CHECKED)
    half = {
        it.key: attacked_error(asked, x[first], y[first], _half(it), plan.attacks, seed=plan.seed, block=0)
        for it in plan.threats
        if it.norm != "l0"
    }
    return replace(join_blocks(parts), half=half), asked.queries - before


def quantity_verdicts(found: RegressionMeasured, plan: RegressionPlan) -> dict[str, str]:
    """Of the checks of a regression those that need neither gradient nor proof; the others are not measured."""
    return regression_checks(found, plan) | dict.fromkeys(NEED_MORE, "not_measured")


def _block(asked: Asked, x: torch.Tensor, y: Floats, plan: RegressionPlan, index: int) -> RegressionMeasured:
    said, tallies = passes(asked, x)
    never, none, reached = np.full(len(x), np.inf), np.empty(0), {}
    for threat in plan.threats:
        low, high, outside = ends(asked, x, white(threat), plan.attacks, plan.seed, index)
        found, change = farthest(low, high, y), farthest(low, high, said)
        reached[threat.key] = Reached(found, never, change, never, none, none, outside)
    return RegressionMeasured(said, np.abs(said - y), reached, {}, tallies)


def _half(threat: ThreatModel) -> ThreatModel:
    return replace(white(threat), epsilon=threat.epsilon / 2)


def _sided(rung: Rung, threats: tuple[ThreatModel, ...]) -> Attack:
    """An attack with half of its queries, for either side; to the end of them."""
    attack: Any = rung.attack
    if not hasattr(attack, "drop") or getattr(attack, "decision_based", False):
        raise UnfitInput(f"black_box.attacks: {rung.name}", "an attack on a class", "square, coordinate or sparse_rs")
    for threat in threats:
        norms = getattr(attack, "norms", MOVES)
        if threat.norm not in norms:
            raise UnfitInput(f"black_box.attacks: {rung.name}", f"threat {threat.key}", " or ".join(norms))
    if attack.queries < 2:
        raise UnfitInput(f"black_box.attacks: {rung.name}", "1 query", "at least one to either side")
    return cast(Attack, replace(attack, queries=attack.queries // 2, drop=False))


def _queries(attack: Any) -> int:
    return int(attack.queries)
