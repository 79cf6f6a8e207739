"""What is measured."""

from __future__ import annotations

from typing import Any

import pydantic

from assay.config.base import Section

__all__ = ["EvaluateConfig"]


class EvaluateConfig(Section):
    """Threats, attacks and probes.

    Fields:
        threats: each ``norm:epsilon``; the first is the primary one, ``robust_accuracy`` in summaries.
        attacks: members of ``attacks`` with their settings; a record counts as robust when it survives all of them.
        triggers: known backdoor triggers to probe with; each gives ``backdoor_success`` under its name.
        confidence: of every interval.
        seed: of every attack.
        threads: torch threads.
        limit: evaluate at most this many records, 0 for all.
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
