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
        watch_psi: population stability index from which a feature that surely drifted is investigated; below, it is
            only watched.
        retrain_psi: index from which a feature that surely drifted calls for training.
        least_records: fewer values of a feature, in either dataset, leave it undecided.
        reference_digest: manifest digest that the reference must have; empty takes any. Pin it, or whoever can replace
            the reference can make any drift look normal.
        seed: of the permutations.
    """

    statistics: tuple[str, ...] = pydantic.Field(default=("ks", "chi2", "psi"), min_length=1)
    false_alarm_rate: float = pydantic.Field(default=0.01, gt=0, lt=1)
    watch_psi: float = pydantic.Field(default=0.1, gt=0)
    retrain_psi: float = pydantic.Field(default=0.25, gt=0)
    least_records: int = pydantic.Field(default=50, ge=2)
    reference_digest: str = pydantic.Field(default="", pattern=r"^([0-9a-f]{64})?$")
    seed: int = pydantic.Field(default=0, ge=0, lt=2**53)

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> MonitorConfig:
        if self.watch_psi > self.retrain_psi:
            raise ValueError(f"watch_psi {self.watch_psi} above retrain_psi {self.retrain_psi}")
        return self
