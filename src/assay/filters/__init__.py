"""Poison filters: ``suspicion(features, labels, ...)`` per record, one file each.

Every member is a frozen dataclass of settings with five class attributes and one method:

    space          the representation the step hands it (see `assay.filters.features`):
                   ``penultimate``  activations of the layer below the classes, of a proxy fitted on all records; what a
                                    backdoor taught the network shows here
                   ``held_out``     class log-probabilities by a proxy that fitted no record of the same source; what
                                    the content alone says, whatever the source taught about its labels
                   ``inputs``       the inputs themselves, in a row
                   ``texture``      how sharp an image is, and where
                   ``resampling``   log-odds that parts of an image were moved, which no label has a say in
    needs_trusted  whether it must have reference records
    floor          score at or below which a record is not suspicious in itself, whatever the others score
    dispersion     variance of counts of suspects, in units of what exchangeable records would give; above 1 where
                   records of different sources are judged by different proxies
    reason         reason code of a record removed on its word

    suspicion(features, labels, *, trusted_features=None, trusted_labels=None) -> scores
        features: (N, D) float64; labels: (N,) int64; trusted likewise, of records known to be clean.
        scores: (N,) float64, finite, higher is worse; comparable within a class, not across classes or members.
        Row order: permuting the records permutes the scores. No member draws random numbers.
        Raises UnfitInput for NaN, infinities, wrong shapes and missing trusted records; never returns NaN.

`two_sample` and its kin compare origins as a whole and take ``origins`` too; their statistic is one of its own.

A score is no decision: `assay.filters.decide` turns scores into removals with a stated false-alarm rate.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

HELPERS: tuple[str, ...] = (
    "step",
    "features",
    "scoring",
    "examine",
    "decide",
    "page",
    "self_test",
    "streaming",
    "score_features",
)

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

__all__ = ["Filter", "Floats", "Labels"]


class Filter(Protocol):
    """The protocol of a member; see the module."""

    space: ClassVar[str]
    needs_trusted: ClassVar[bool]
    floor: ClassVar[float]
    dispersion: ClassVar[float]
    reason: ClassVar[str]

    def suspicion(
        self,
        features: Floats,
        labels: Labels,
        *,
        trusted_features: Floats | None = None,
        trusted_labels: Labels | None = None,
    ) -> Floats:
        """Scores (N,), higher is worse."""
        ...
