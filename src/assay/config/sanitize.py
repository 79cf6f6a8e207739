"""What a plausible record is."""

from __future__ import annotations

from typing import Any

import pydantic

from assay.config.base import Section

__all__ = ["SanitizeConfig"]


class SanitizeConfig(Section):
    """Expectations and caps.

    Fields:
        suite: Great Expectations configurations, each ``{"type": ..., "kwargs": {...}}``; checked beside what assay
            always checks (rows, finite features, labels in the classes).
        least_records: fewer kept records fail the step.
        removal_cap: largest share of one source or one class that may be quarantined without review.
    """

    suite: tuple[dict[str, Any], ...] = ()
    least_records: int = pydantic.Field(default=2, ge=1)
    removal_cap: float = pydantic.Field(default=0.5, gt=0, le=1)
