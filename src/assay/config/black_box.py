"""How a model that can only be asked is measured."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from assay.config.base import Section

__all__ = ["BlackBoxConfig"]


class BlackBoxConfig(Section):
    """What may be asked of it, and what its answers are.

    Fields:
        queries: how often one record may be asked, by all attacks and checks together; part of the threat and its name.
        attacks: members of ``attacks`` that need no gradient, with their settings. An attack on a surrogate that learns
            the answers goes before them.
        answers: ``scores`` (logits), ``probabilities`` or ``labels`` (the number of the class).
        bounds: the box of valid inputs.
        output: name of the output tensor of an endpoint; the first by default.
        timeout_s, attempts: of one request.
        batch_records: rows a request.
        pyfunc: consent to run the code inside an MLflow model: ``refuse``; ``isolated``, in a process without
            environment and without network; ``unisolated``, where that cannot be had, with the network.
    """

    queries: int = pydantic.Field(default=1000, ge=1, lt=2**31)
    attacks: dict[str, dict[str, Any]] = pydantic.Field(
        default_factory=lambda: {"square": {"queries": 900}}, min_length=1
    )
    answers: Literal["scores", "probabilities", "labels"] = "scores"
    bounds: tuple[float, float] = (0.0, 1.0)
    output: str = ""
    timeout_s: float = pydantic.Field(default=10.0, gt=0, le=600)
    attempts: int = pydantic.Field(default=3, ge=1, le=20)
    batch_records: int = pydantic.Field(default=256, ge=1, le=65536)
    pyfunc: Literal["refuse", "isolated", "unisolated"] = "refuse"
