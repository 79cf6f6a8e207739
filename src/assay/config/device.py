"""On what a step computes."""

from __future__ import annotations

from typing import Literal

__all__ = ["Device"]

Device = Literal["auto", "cpu", "cuda"]
