"""From the configuration to what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from assay import catalog
from assay.attacks.geometry import MOVES
from assay.config.evaluate import EvaluateConfig
from assay.constraints import Constraints
from assay.devices import device_of
from assay.errors import UnfitInput
from assay.evaluate import soundness
from assay.evaluate.fast import supports_bfloat16
from assay.evaluate.ladder import Rung, ladder
from assay.evaluate.measure import Plan
from assay.evaluate.probes import read_triggers
from assay.models.spec import ModelSpec
from assay.threat import ThreatModel

__all__ = ["make_plan", "refuse_settings", "threats_of"]


def make_plan(config: EvaluateConfig, spec: ModelSpec, constraints: Constraints | None = None) -> Plan:
    """The plan for a model: threats in its box, attacks built, triggers that fit its input.

    Raises:
        UnfitInput: an epsilon of 0 or beyond the box, a threat given twice, or a trigger that does not fit.
    """
    threats = threats_of(config, spec.bounds, int(torch.Size(spec.input_shape).numel()), constraints)
    rungs = ladder(config.attacks)
    _require_norms(rungs, threats)
    triggers = read_triggers(config.triggers)
    for trigger in triggers:
        trigger.require_fit(spec.input_shape, spec.bounds, len(spec.classes))
    half = config.precision == "bfloat16"
    if half and device_of(config.device, "evaluate.device").type == "cpu" and not supports_bfloat16():
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


def threats_of(
    config: EvaluateConfig, bounds: tuple[float, float], features: int, constraints: Constraints | None = None
) -> tuple[ThreatModel, ...]:
    """The configured threats around records of so many features, in a box and under constraints.

    Raises:
        UnfitInput: an epsilon of 0 or beyond the box, or a threat given twice: both would write one estimate.
    """
    balls = (ThreatModel.parse(text, bounds) for text in config.threats)
    threats = tuple(replace(ball, constraints=constraints) for ball in balls)
    for threat in threats:
        box = soundness.box_size(threat, features)
        if threat.epsilon > box:
            raise UnfitInput(f"threat {threat.key}: epsilon", f"{threat.epsilon}", f"at most the box, {box:g}")
    if len({threat.key for threat in threats}) != len(threats):
        raise UnfitInput("threats", ", ".join(config.threats), "each threat once")
    return threats


def refuse_settings(config: EvaluateConfig, names: Sequence[str], who: str) -> None:
    """Refuse what is set in the section ``evaluate`` and means nothing for this kind of model.

    Raises:
        UnfitInput: names the setting.
    """
    for name in names:
        if getattr(config, name):
            raise UnfitInput(f"evaluate.{name}", str(getattr(config, name))[:100], f"none for {who}")


def _require_norms(rungs: Sequence[Rung], threats: Sequence[ThreatModel]) -> None:
    """Every attack must answer for every threat: one left out would leave a gap that no estimate shows.

    Raises:
        UnfitInput: an attack that does not move in the norm of a threat.
    """
    for rung in rungs:
        norms = getattr(rung.attack, "norms", MOVES)
        for threat in threats:
            if threat.norm not in norms:
                todo = f"Measure this threat in an evaluation of its own, with {', '.join(_moving_in(threat.norm))}."
                raise UnfitInput(f"attacks.{rung.name}", f"threat {threat.key}", " or ".join(norms), todo)


def _moving_in(norm: str) -> list[str]:
    """The attacks that may be configured for a norm."""
    members = {name: catalog.member("attacks", name) for name in catalog.names("attacks")}
    return [name for name, member in members.items() if norm in getattr(member, "norms", MOVES)]
