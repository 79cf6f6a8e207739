"""Are a source's images elsewhere sharp than those of the other sources, within a class?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from assay.filters.two_sample import TwoSample

__all__ = ["TwoSampleTexture"]


@dataclass(frozen=True, kw_only=True)
class TwoSampleTexture(TwoSample):
    """As `TwoSample`, in the texture of images (`assay.filters._texture`), which warping and blending change."""

    space: ClassVar[str] = "texture"
    reason: ClassVar[str] = "texture_shift"
