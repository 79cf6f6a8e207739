"""When the world counts as changed."""

from __future__ import annotations

import pydantic

from assay.config.base import Section

__all__ = ["MonitorConfig"]


class MonitorConfig(Section):
    """Statistics and decision bands.

    Fields:
        statistics: members of ``drift``.
        false_alarm_rate: chance of investigate or retrain when nothing has changed, over all features together.
        watch_psi, retrain_psi: population stability index at which a drifted feature is watched, or calls for training.
        least_records: fewer current records leave the answer undecided.
    """

    statistics: tuple[str, ...] = pydantic.Field(default=("ks", "chi2", "psi"), min_length=1)
    false_alarm_rate: float = pydantic.Field(default=0.01, gt=0, lt=1)
    watch_psi: float = pydantic.Field(default=0.1, gt=0)
    retrain_psi: float = pydantic.Field(default=0.25, gt=0)
    least_records: int = pydantic.Field(default=50, ge=2)
