"""Represent, score and decide: all of the filter that writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from assay.config.filters import FilterConfig
from assay.data import records
from assay.data.dataset import Dataset, features, labels
from assay.data.held import HeldRows
from assay.data.layout import RESERVED
from assay.errors import UnfitInput
from assay.filters import Filter, Labels
from assay.filters.decide import Decision, Scores, decide
from assay.filters.features import Encode, Inputs, Spaces, spaces, views
from assay.filters.scoring import score_all

OVERLAYS = 16

__all__ = ["Examined", "Judged", "examine", "judge", "look"]


@dataclass(frozen=True)
class Judged:
    """What the detectors said, and what follows.

    Fields:
        scores: by detector; silent: detectors that could not speak, with the reason.
        decision: what goes.
    """

    scores: dict[str, Scores]
    silent: dict[str, str]
    decision: Decision


@dataclass(frozen=True)
class Examined:
    """All that the filter knows of a dataset.

    Fields:
        x: the records' features.
        origins: of every record: its source, or its batch where there is one source.
        trusted_labels: of the trusted records (T,).
        spaces: the representations; scores: by detector; silent: detectors that could not speak, with the reason.
        built: the detectors.
        decision: what goes.
        encoder: what gave the activations, where no proxy did.
    """

    x: Inputs | HeldRows
    origins: list[str]
    trusted_labels: Labels
    spaces: Spaces
    scores: dict[str, Scores]
    silent: dict[str, str]
    built: dict[str, Filter]
    decision: Decision
    encoder: Encode | None = None


def examine(
    given: Dataset,
    x: Inputs | HeldRows,
    config: FilterConfig,
    trusted: Dataset | None,
    built: dict[str, Filter],
    encoder: Encode | None = None,
) -> Examined:
    """Represent, score and decide; writes nothing.

    Args:
        given: the records under test; of its table only keys and labels are read.
        x: their features, (N, C, H, W) or (N, D) float32.
        config: rates and seeds.
        trusted: records known to be clean, or None.
        built: the detectors, from `assay.filters.scoring.members`.
        encoder: see `assay.filters.features.spaces`.
    """
    y, origins = labels(given), _origins(given)
    _require_schema(given, trusted)
    reference = (features(trusted), labels(trusted)) if trusted is not None and len(trusted) else None
    trusted_labels = reference[1] if reference else np.empty(0, dtype=np.int64)
    classes = len(given.manifest.content.classes)
    found, made = look(x, y, origins, classes, reference, config, built, encoder)
    return Examined(x, origins, trusted_labels, found, made.scores, made.silent, built, made.decision, encoder)


def look(
    x: Inputs | HeldRows,
    labels: Labels,
    origins: Sequence[str],
    classes: int,
    trusted: tuple[Inputs, Labels] | None,
    config: FilterConfig,
    built: Mapping[str, Filter],
    encoder: Encode | None = None,
) -> tuple[Spaces, Judged]:
    """Represent, score and decide on arrays.

    Args:
        x: (N, C, H, W) or (N, D) float32.
        labels: (N,) int64 in [0, classes).
        origins: of every record.
        classes: number of classes.
        trusted: inputs and labels of records known to be clean, or None.
        config: rates and seeds.
        built: the detectors.
        encoder: see `assay.filters.features.spaces`.
    """
    options: dict[str, Any] = {"epochs": config.epochs, "seed": config.seed, "threads": config.threads}
    options["device"] = config.device
    options["overlays"] = OVERLAYS if any(member.space == "superimposed" for member in built.values()) else 0
    found = spaces(x, labels, origins, classes=classes, trusted=trusted, encoder=encoder, **options)
    trusted_labels = trusted[1] if trusted else np.empty(0, dtype=np.int64)
    return found, judge(found, labels, origins, trusted_labels, config, built)


def judge(
    found: Spaces,
    labels: Labels,
    origins: Sequence[str],
    trusted_labels: Labels,
    config: FilterConfig,
    built: Mapping[str, Filter],
) -> Judged:
    """Score and decide what has been represented.

    Args:
        found: the representations.
        labels: (N,) of the records under test.
        origins: of every record.
        trusted_labels: (T,).
        config: rates and seeds.
        built: the detectors.
    """
    with threadpool_limits(config.threads):
        scores, silent = score_all(built, found, labels, trusted_labels, origins)
        decision = decide(
            scores,
            labels,
            origins,
            trusted_labels,
            false_alarm_rate=config.false_alarm_rate,
            permutations=config.permutations,
            generator=np.random.default_rng(config.seed),
            views=views(found),
            clean_loss=config.clean_loss,
            false_discovery_share=config.false_discovery_share,
        )
    return Judged(scores, {**silent, **decision.set_aside}, decision)


def _origins(given: Dataset) -> list[str]:
    """What records are told apart by: their source, or their batch where all are of one source."""
    of_source = records.sources(given.table)
    return of_source if len(set(of_source)) > 1 else list(given.table["batch"].to_pylist())


def _require_schema(given: Dataset, trusted: Dataset | None) -> None:
    if trusted is None:
        return
    one, other = given.manifest.content, trusted.manifest.content
    names = [column.name for column in one.columns], [column.name for column in other.columns]
    features_of_both = [[name for name in each if name not in RESERVED] for each in names]
    if one.classes != other.classes or features_of_both[0] != features_of_both[1]:
        raise UnfitInput("trusted records", f"columns {names[1]}", f"columns {names[0]} and the same classes")
