"""How a model of quantities is measured."""

from __future__ import annotations

import pydantic

from assay.config.base import Section

__all__ = ["RegressionConfig"]


class RegressionConfig(Section):
    """What an error may be.

    Fields:
        largest_error: in units of the label. A larger error counts as this much, and the check ``errors_within_bound``
            says so: without a largest error no interval for a mean error holds whatever the distribution.
    """

    largest_error: float = pydantic.Field(gt=0, lt=1e300, allow_inf_nan=False)
