"""Detectors of implausible records, one file each: how suspicious is a record, measured by records it should be like?

Every member is a frozen dataclass of settings with two class attributes and one method:

    reason   reason code of its findings
    fits     what it is fitted to: ``trusted`` records (halves of the records themselves where there are none), or the
             ``records`` under test, among which it looks for too much likeness

    fit(x, y, *, seed) -> scorer
        x: (M, D) float64, finite, D >= 1; y: (M,) int64. At most `FIT_RECORDS` of them.
        scorer(x, y, *, same=False) -> scores (N,) float64, finite, higher is worse. A record's score depends on itself
        and the fit alone, not on the others scored with it, so that records can be scored in chunks, and clean
        records drawn like the trusted ones have scores drawn like theirs: that is what the cut rests on. ``same``
        says that the records scored are those fitted.
        Raises UnfitInput for settings or records it cannot be fitted to.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from assay.data.matrix import Floats

HELPERS = ("scaling",)
FIT_RECORDS = 20_000
Labels = npt.NDArray[np.int64]

__all__ = ["FIT_RECORDS", "HELPERS", "Detector", "Floats", "Labels", "Scorer"]


class Scorer(Protocol):
    """A fitted detector."""

    def __call__(self, x: Floats, y: Labels, *, same: bool = False) -> Floats:
        """Scores (N,), higher is worse."""
        ...


class Detector(Protocol):
    """A member of ``sanitize.detectors``."""

    reason: ClassVar[str]
    fits: ClassVar[Literal["trusted", "records"]]

    def fit(self, x: Floats, y: Labels, *, seed: int) -> Scorer:
        """The detector, fitted."""
        ...
