"""What a plausible record is."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from assay.config.base import Section

__all__ = ["SanitizeConfig"]


class SanitizeConfig(Section):
    """Expectations and caps.

    Fields:
        suite: Great Expectations configurations, each ``{"type": ..., "kwargs": {...}}``; checked beside what assay
            always checks (rows, finite features, missing values, weights, duplicates, labels in the classes). Columns
            are the features that are no images, ``label`` and ``record_id``; of an image column ``c`` they are
            ``c.min``, ``c.max``, ``c.mean`` and ``c.std``.
        least_records: fewer kept records fail the step.
        removal_cap: largest share of one source or one class that may be quarantined without review.
        duplicates: what becomes of a record whose features and label equal those of an earlier record.
    """

    suite: tuple[dict[str, Any], ...] = ()
    least_records: int = pydantic.Field(default=2, ge=1)
    removal_cap: float = pydantic.Field(default=0.5, gt=0, le=1)
    duplicates: Literal["quarantine", "flag", "keep"] = "quarantine"
