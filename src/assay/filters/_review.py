"""When a removal is too large, or too whole, to happen without a person having looked.

A filter can be used as a weapon: what differs from the rest may be a minority. Nothing goes where poison may be the
majority, where a source would lose all its records of a class (there is then no part of it to compare with), or where
a source differs in several classes at once by its activations alone, or by whatever but no records can be told apart:
that is how an honest source with another instrument looks, or one whose labels are wrong, and not how a backdoor looks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from assay.data import records
from assay.data.dataset import Dataset, labels
from assay.errors import AssayError
from assay.filters._hearing import in_several
from assay.filters.decide import ALL_SOURCES
from assay.filters.examine import Examined

WHOLE = 0.9

__all__ = ["doubts", "require_none"]


def doubts(given: Dataset, examined: Examined, cap: float) -> list[str]:
    """What a person has to look at before the suspects may go; empty where nothing stands in the way.

    Args:
        given: the records under test.
        examined: what the filter knows of them.
        cap: largest share of one source or class that may go; 1 says that a person has looked, and nothing is in doubt.
    """
    if cap >= 1:
        return []
    classes, gone = given.manifest.content.classes, examined.decision.removed
    sources, named = np.array(records.sources(given.table)), np.array(classes)[labels(given)]
    pairs = zip(sources.tolist(), named.tolist(), strict=True)
    cells = np.array([f"class {label!r} of source {source!r}" for source, label in pairs])
    return [
        *_above(np.array([f"source {name!r}" for name in sources.tolist()]), gone, cap),
        *_above(np.array([f"class {name!r}" for name in named.tolist()]), gone, cap),
        *(_above(cells, gone, WHOLE) if len(set(sources)) > 1 else []),
        *_several(sources, named, _by_activations(examined), _differing(examined, classes), len(classes)),
    ]


def require_none(found: list[str], cap: float) -> None:
    """Refuse to go on in doubt.

    Raises:
        AssayError: needs review (exit 3); names every doubt.
    """
    if found:
        raise AssayError(
            "needs review",
            f"suspects in {', '.join(found)}",
            f"at most a share of {cap} of each source and class, not all that a source has of a class, nor one "
            "source that differs in several classes",
            "The filter cannot tell which part is clean: look at the records, then leave out the source, or set "
            "removal_cap to 1.",
        )


def _above(names: np.ndarray, gone: np.ndarray, cap: float) -> list[str]:
    every, lost = Counter(names.tolist()), Counter(names[gone].tolist())
    return [f"{name} {lost[name]} of {every[name]}" for name in sorted(lost) if lost[name] > cap * every[name]]


def _by_activations(examined: Examined) -> np.ndarray:
    """Which records go on the word of a detector that looks at activations, (N,)."""
    decision = examined.decision
    looks = [examined.built[name].space == "penultimate" for name in decision.detectors]
    return np.asarray(decision.removed & np.array(looks)[decision.by])


def _differing(examined: Examined, classes: Sequence[str]) -> list[tuple[str, str]]:
    """Sources and the classes in which each differs though nothing of it can be told apart."""
    return [
        (one.origin, classes[one.label])
        for one in examined.decision.classes
        if one.status == "differs" and one.origin != ALL_SOURCES
    ]


def _several(
    sources: np.ndarray, named: np.ndarray, gone: np.ndarray, differing: list[tuple[str, str]], classes: int
) -> list[str]:
    of_source: dict[str, set[str]] = defaultdict(set)
    for source, label in differing:
        of_source[source].add(label)
    for source, label in zip(sources[gone].tolist(), named[gone].tolist(), strict=True):
        of_source[source].add(label)
    return [
        f"source {source!r} in classes {', '.join(sorted(found))}"
        for source, found in sorted(of_source.items())
        if in_several(len(found), classes)
    ]
