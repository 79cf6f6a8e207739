"""The policy: which rules must hold before a model is promoted."""

from __future__ import annotations

from typing import Any

import pydantic

from assay.config.base import Section

__all__ = ["PolicyConfig"]


class PolicyConfig(Section):
    """Rules and how long evidence counts.

    Fields:
        rules: each ``{"rule": <name>, ...settings}``; an empty list is an error, never a promotion.
        confidence: that the intervals must have at least.
        accept_local_keys: whether keys of assurance ``local`` count; a cluster says no.
        valid_for_s: age at which evidence and decision expire.
    """

    rules: tuple[dict[str, Any], ...] = pydantic.Field(min_length=1)
    confidence: float = pydantic.Field(default=0.95, gt=0.5, lt=1)
    accept_local_keys: bool = True
    valid_for_s: int = pydantic.Field(default=7 * 86400, ge=1)
