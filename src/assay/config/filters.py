"""How poison is looked for."""

from __future__ import annotations

from typing import Any

import pydantic

from assay.config.base import Section

__all__ = ["FilterConfig"]


class FilterConfig(Section):
    """Detectors and the rates they are held to.

    Fields:
        detectors: members of ``filters`` with their settings.
        false_alarm_rate: on a clean dataset, at most this share of runs removes anything.
        removal_cap: largest share of one class or source that may be quarantined without review.
        seed: of the proxy model.
    """

    detectors: dict[str, dict[str, Any]] = pydantic.Field(default={"spectral": {}, "activation_clustering": {}})
    false_alarm_rate: float = pydantic.Field(default=0.05, gt=0, lt=1)
    removal_cap: float = pydantic.Field(default=0.33, gt=0, le=1)
    seed: int = pydantic.Field(default=0, ge=0, lt=2**53)
