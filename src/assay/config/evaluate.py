"""What is measured."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from assay.config.base import Section

__all__ = ["EvaluateConfig"]


class EvaluateConfig(Section):
    """Threats, attacks and probes.

    Fields:
        threats: each ``norm:epsilon``; the first is the primary one, ``robust_accuracy`` in summaries.
        attacks: members of ``attacks`` with their settings; a record counts as robust when it survives all of them.
        triggers: known backdoor triggers to probe with, each ``name``, ``kind``, ``target`` (number of a class) and the
            fields of its kind: ``patch`` (row, column, size, value), ``corner``, ``blended``, ``stripe`` or
            ``sinusoidal``.
        confidence: of every interval.
        seed: of every attack.
        threads: blocks of 256 records attacked at the same time, one torch thread each; changes no number.
        limit: evaluate at most this many records, drawn by the seed; 0 for all.
        device: ``auto`` takes a GPU where there is one; the evidence says which it was.
    """

    threats: tuple[str, ...] = pydantic.Field(default=("linf:0.1",), min_length=1)
    attacks: dict[str, dict[str, Any]] = pydantic.Field(
        default_factory=lambda: {"fgsm": {}, "pgd": {"steps": 40, "restarts": 5}}, min_length=1
    )
    triggers: tuple[dict[str, Any], ...] = ()
    confidence: float = pydantic.Field(default=0.95, gt=0.5, lt=1)
    seed: int = pydantic.Field(default=0, ge=0, lt=2**53)
    threads: int = pydantic.Field(default=2, ge=1, le=256)
    limit: int = pydantic.Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
