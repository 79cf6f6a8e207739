"""Every detector's scores, of the records under test and, on equal terms, of the trusted ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay import catalog
from assay.errors import UnfitInput
from assay.filters import Filter, Floats, Labels
from assay.filters.decide import Scores
from assay.filters.features import Space, Spaces, View, dealt
from assay.filters.two_sample import TwoSample

FOLDS = 5
LEAST_TRUSTED = 4
INSTRUMENTS = ("resampling", "inputs", "texture")
"""Representations that the way in which an honest source makes its records is enough to move."""

NO_IMAGES = "no images of three or more pixels a side"
UNMADE = {"resampling": NO_IMAGES, "texture": NO_IMAGES}

__all__ = ["members", "score_all"]


def members(detectors: Mapping[str, Mapping[str, Any]]) -> dict[str, Filter]:
    """The members by name, built with their settings, sorted.

    Raises:
        UnknownName: no such member or setting.
        UnfitInput: a setting the member refuses, or no detector at all.
    """
    if not detectors:
        raise UnfitInput("filter.detectors", "none", f"one or more of {', '.join(catalog.names('filters'))}")
    return {name: catalog.build("filters", name, detectors[name]) for name in sorted(detectors)}


def score_all(
    built: Mapping[str, Filter], found: Spaces, labels: Labels, trusted_labels: Labels, origins: Sequence[str]
) -> tuple[dict[str, Scores], dict[str, str]]:
    """Scores by detector, and the detectors that could not speak with the reason why.

    A detector that needs trusted records speaks only where every class has at least four, and the trusted
    records themselves are scored by folds, each against the others, so that they are not measured by their own mean.
    """
    scores, silent = {}, {}
    for name, member in built.items():
        space = getattr(found, member.space)
        if space is None:
            silent[name] = UNMADE.get(member.space, "one source and no trusted records: no model can be held out")
        elif member.needs_trusted and (lacking := _lacking(labels, trusted_labels)):
            silent[name] = f"needs {LEAST_TRUSTED} trusted records of every class; lacking: {lacking}"
        elif member.needs_trusted:
            scores[name] = _against_trusted(member, space, labels, trusted_labels)
        elif isinstance(member, TwoSample):
            scores[name] = _compared(member, space, labels, trusted_labels, origins)
        else:
            scores[name] = _together(member, space, labels, trusted_labels)
    return scores, silent


def _lacking(labels: Labels, trusted_labels: Labels) -> str:
    return ", ".join(str(label) for label in np.unique(labels) if (trusted_labels == label).sum() < LEAST_TRUSTED)


def _together(member: Filter, space: Space, labels: Labels, trusted_labels: Labels) -> Scores:
    """Records and trusted records in one pool, so that they are exchangeable."""
    pool, answers = np.concatenate([space.records, space.trusted]), np.concatenate([labels, trusted_labels])
    scores = member.suspicion(pool, answers)
    return _scores(member, scores[: len(labels)], scores[len(labels) :])


def _compared(member: TwoSample, view: View, labels: Labels, trusted_labels: Labels, origins: Sequence[str]) -> Scores:
    whitened = member.whitened(view, labels, trusted_labels)
    return _scores(member, *member.scores(whitened, labels, trusted_labels, origins), whitened)


def _against_trusted(member: Filter, space: Space, labels: Labels, trusted_labels: Labels) -> Scores:
    own = member.suspicion(space.records, labels, trusted_features=space.trusted, trusted_labels=trusted_labels)
    fold, trusted = dealt(trusted_labels, FOLDS), np.zeros(len(trusted_labels))
    for leave in range(fold.max() + 1):
        use, judged = fold != leave, fold == leave
        trusted[judged] = _judge(member, space, labels, trusted_labels, use, judged)
    return _scores(member, own, trusted)


def _scores(member: Filter, records: Floats, trusted: Floats, compared: View | None = None) -> Scores:
    return Scores(records, trusted, member.floor, member.dispersion, member.space in INSTRUMENTS, compared)


def _judge(member: Filter, space: Space, labels: Labels, trusted_labels: Labels, use: Labels, judged: Labels) -> Floats:
    """Scores of the judged trusted records, among the records under test, against the others."""
    scores = member.suspicion(
        np.concatenate([space.records, space.trusted[judged]]),
        np.concatenate([labels, trusted_labels[judged]]),
        trusted_features=space.trusted[use],
        trusted_labels=trusted_labels[use],
    )
    return scores[len(labels) :]
