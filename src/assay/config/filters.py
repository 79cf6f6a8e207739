"""How poison is looked for."""

from __future__ import annotations

from typing import Any

import pydantic

from assay.config.base import Section

__all__ = ["FilterConfig"]

DETECTORS = ("activation_clustering", "disagreement", "neighbours", "spectral", "trusted_mahalanobis")


class FilterConfig(Section):
    """Detectors and the rates they are held to.

    Fields:
        detectors: members of ``filters`` with their settings; default all but ``quantum_entropy``.
        false_alarm_rate: on a clean dataset, at most this share of runs removes anything.
        removal_cap: largest share of one class or source that may be quarantined without review; 1 lets all go.
        permutations: draws of the null distribution; the least p-value is 1 / (permutations + 1).
        epochs: of the proxy models.
        seed: of the proxy models and the draws.
        threads: torch threads; fixed, because another number gives other bytes.
    """

    detectors: dict[str, dict[str, Any]] = pydantic.Field(default={name: {} for name in DETECTORS}, min_length=1)
    false_alarm_rate: float = pydantic.Field(default=0.01, gt=0, lt=1)
    removal_cap: float = pydantic.Field(default=0.5, gt=0, le=1)
    permutations: int = pydantic.Field(default=999, ge=19, le=100_000)
    epochs: int = pydantic.Field(default=12, ge=1, le=1000)
    seed: int = pydantic.Field(default=0, ge=0, lt=2**53)
    threads: int = pydantic.Field(default=1, ge=1, le=256)
