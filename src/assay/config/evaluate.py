"""What is measured."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from assay.config.base import Section
from assay.config.black_box import BlackBoxConfig
from assay.config.constraints import ConstraintsConfig
from assay.config.device import Device
from assay.config.regression import RegressionConfig

__all__ = ["PRESETS", "EvaluateConfig"]

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "standard": {
        "fgsm": {},
        "apgd": {"steps": 50, "loss": "ce"},
        "pgd": {"steps": 10, "restarts": 20, "loss": "margin", "start": "tiles"},
        "apgd_targeted": {"steps": 20, "targets": 6, "restarts": 4, "loss": "margin", "start": "tiles"},
        "fab": {"steps": 30, "targets": 3},
        "square": {"queries": 800},
    }
}
"""Ladders by name. ``standard`` breaks what AutoAttack's standard version breaks (benchmarks/bench_autoattack.py)."""

FIRST_ATTEMPT = 0.97
"""At least ``assay.attempts.confidence_at(0.95, 1)``, rounded up."""


class EvaluateConfig(Section):
    """Threats, attacks and probes.

    Fields:
        threats: each ``norm:epsilon``; the first is the primary one, ``robust_accuracy`` in summaries.
        attacks: members of ``attacks`` with their settings, or the name of a preset, which stands for its attacks and
            settings: ``standard``. A record counts as robust when it survives all of them.
        triggers: known backdoor triggers to probe with, each ``name``, ``kind`` (a member of ``poison.triggers``, such
            as ``patch``), ``target`` (number of a class) and the fields of its kind.
        aspects: members of ``evaluate.aspects`` with their settings, such as ``calibration: {}``: what else is
            measured.
        sets: other records by name, each the path, ``file://`` or ``s3://bucket/prefix`` of a dataset folder, for
            aspects that ask for them by that name: canaries, records from elsewhere, records to fit a temperature on.
            On a cluster the pod that evaluates has to be able to read them there.
        slices: also measure every ``class``, every ``source`` of the hold-out, or both, for the rule ``worst_slice``.
            Of quantities, every ``source``.
        constraints: of a table, which columns an attack may move and how; part of every threat, and of its name.
            Usually the section ``constraints`` of the whole file, by which sanitize judges records too.
        black_box: of a model that can only be asked: how often, and what its answers are.
        regression: of a model of quantities: the largest error that counts.
        confidence: of every interval. Left out, 0.95; with ``decide`` 0.97, what a policy of 0.95 asks at the first
            attempt on a hold-out. It asks 0.993 at the second, 0.997 at the third (`assay.attempts.confidence_at`).
        seed: of every attack.
        threads: blocks of 256 records attacked at the same time, one torch thread each; changes no number.
        limit: evaluate at most this many records, drawn by the seed; 0 for all.
        decide: name of an estimate and the value that a rule holds it to, such as ``robust_accuracy/linf:0.1: 0.5``.
            When any is given, records come in random order and the evaluation stops as soon as the verdict on each is
            what all records would say, but for a chance of one in a thousand. With a champion to compare, all are
            measured. What stopped early cannot be made again at a higher confidence by the gate, which asks for more at
            every attempt: see ``confidence``.
        limit_s: seconds for the attacks on one model; then no other attack is begun, the evidence says that it was cut
            short, and no gate decides on it. 0 for no limit, so that the same inputs always give the same numbers.
        budget: gradient evaluations that the attacks may spend on one record under one threat, a query without a
            gradient counting as a third; an attack that would spend more is not begun, and the evidence is cut short as
            above, but the same on every machine. 0 for no limit.
        precision: in which convolutional networks are attacked; what is found counts only where the network itself is
            wrong in float32 too. ``bfloat16`` needs a CPU that multiplies in it, or a GPU.
        device: ``auto`` takes a GPU where there is one; the evidence says which it was.
    """

    threats: tuple[str, ...] = pydantic.Field(default=("linf:0.1",), min_length=1)
    attacks: dict[str, dict[str, Any]] = pydantic.Field(
        default_factory=lambda: {"fgsm": {}, "pgd": {"steps": 40, "restarts": 5}}, min_length=1
    )
    triggers: tuple[dict[str, Any], ...] = ()
    aspects: dict[str, dict[str, Any]] = pydantic.Field(default_factory=dict)
    sets: dict[Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")], str] = pydantic.Field(
        default_factory=dict
    )
    slices: tuple[Literal["class", "source"], ...] = ()
    constraints: ConstraintsConfig | None = None
    black_box: BlackBoxConfig | None = None
    regression: RegressionConfig | None = None
    confidence: float = pydantic.Field(default=0.95, gt=0.5, lt=1)
    seed: int = pydantic.Field(default=0, ge=0, lt=2**53)
    threads: int = pydantic.Field(default=2, ge=1, le=256)
    limit: int = pydantic.Field(default=0, ge=0)
    decide: dict[str, float] = pydantic.Field(default_factory=dict)
    limit_s: float = pydantic.Field(default=0.0, ge=0)
    budget: float = pydantic.Field(default=0.0, ge=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Device = "auto"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _sequential(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("decide") and "confidence" not in given:
            return given | {"confidence": FIRST_ATTEMPT}
        return given

    @pydantic.field_validator("attacks", mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        if given not in PRESETS:
            raise ValueError(f"no such preset; known: {', '.join(PRESETS)}")
        return PRESETS[given]
