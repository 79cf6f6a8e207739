"""What is asked of a model that can only be asked: threats with a query budget, and attacks that keep to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from assay import catalog
from assay.attacks.transfer import Transfer
from assay.config.black_box import BlackBoxConfig
from assay.config.evaluate import EvaluateConfig
from assay.constraints import Constraints
from assay.errors import UnfitInput
from assay.evaluate.ladder import Rung, ladder
from assay.evaluate.measure import Plan
from assay.evaluate.plan import refuse_settings, threats_of
from assay.evaluate.strength import TRANSFER
from assay.threat import ThreatModel

BESIDE = 3
"""Queries a record for each attack besides its proposals: the clean row, where it begins, and what it found."""

__all__ = ["BESIDE", "BlackBoxPlan", "asking", "black_box_threats", "make_black_box_plan", "require_queries"]


@dataclass(frozen=True, kw_only=True)
class BlackBoxPlan(Plan):
    """What is measured of a model that can only be asked: the rungs are the whole ladder."""

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """The rungs."""
        return self.rungs


def make_black_box_plan(
    config: EvaluateConfig, box: BlackBoxConfig, features: int, constraints: Constraints | None = None
) -> BlackBoxPlan:
    """Threats with their query budget, and the attacks that keep to it, the one that asks least first.

    Raises:
        UnfitInput: an attack that needs a gradient, one that may ask more than the budget, a threat beyond the box, or
            a setting of the section ``evaluate`` that a black box has no answer to.
    """
    given = asking(config, box)
    surrogate = [] if any(rung.name == TRANSFER for rung in given) else [Rung(TRANSFER, Transfer())]
    rungs = tuple(sorted((*surrogate, *given), key=_queries))
    require_queries(BESIDE + sum(_queries(rung) + BESIDE for rung in rungs), box)
    return BlackBoxPlan(threats=black_box_threats(config, box, features, constraints), rungs=rungs, seed=config.seed)


def asking(config: EvaluateConfig, box: BlackBoxConfig) -> tuple[Rung, ...]:
    """The configured attacks, none of which follows a gradient.

    Raises:
        UnfitInput: one that does, or a setting of the section ``evaluate`` that a black box has no answer to.
    """
    names = ("triggers", "aspects", "sets", "slices", "decide", "limit_s", "budget")
    refuse_settings(config, names, "a black box")
    given = ladder(box.attacks)
    for rung in given:
        if not rung.gradient_free:
            raise UnfitInput(f"black_box.attacks: {rung.name}", "an attack that follows the gradient", _free())
    return given


def require_queries(most: int, box: BlackBoxConfig) -> None:
    """Refuse a budget that is below what the attacks may ask for a record."""
    if most > box.queries:
        raise UnfitInput(
            "black_box.queries",
            f"{box.queries}",
            f"at least the {most} that the attacks may ask for a record",
            "Give the attacks fewer queries, or the threat more.",
        )


def black_box_threats(
    config: EvaluateConfig, box: BlackBoxConfig, features: int, constraints: Constraints | None
) -> tuple[ThreatModel, ...]:
    """The configured threats by an adversary who only asks, so often.

    Raises:
        UnfitInput: as `assay.evaluate.plan.threats_of`.
    """
    balls = threats_of(config, box.bounds, features, constraints)
    return tuple(replace(ball, knowledge="black-box", query_budget=box.queries) for ball in balls)


def _free() -> str:
    """The attacks that need no gradient, for people."""
    free = [name for name in catalog.names("attacks") if getattr(catalog.member("attacks", name), "gradient_free", 0)]
    return f"one that asks only: {', '.join(free)}"


def _queries(rung: Rung) -> int:
    """The most that one record is asked by the proposals of an attack."""
    attack: Any = rung.attack
    return int(attack.queries) * rung.restarts
