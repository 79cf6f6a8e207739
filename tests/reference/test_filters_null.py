"""No poison: real records, real proxies, sources that differ by chance alone; how often does anything happen?"""

from __future__ import annotations

from dataclasses import fields
from functools import cache

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from assay.config.filters import DETECTORS, FilterConfig
from assay.filters import Labels
from assay.filters.decide import decide
from assay.filters.features import Space, Spaces, spaces, views
from assay.filters.scoring import members, score_all

SOURCES, SHARE_TRUSTED, SHARE_DRAWN = 3, 0.2, 0.7
DECLARED, ALLOWED = 0.05, 86
DATA = {"digits": load_digits, "breast_cancer": load_breast_cancer, "wine": load_wine}

Measured = tuple[Spaces, Labels, np.ndarray, Labels]


@cache
def measured(name: str, seed: int) -> Measured:
    """The representations of one deal of a data set to three sources and the trusted one; labels, sources."""
    bundle = DATA[name]()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(bundle.target))
    x = (bundle.images[:, None] / 16 if name == "digits" else bundle.data)[order].astype(np.float32)
    y = bundle.target[order].astype(np.int64)
    n = int((1 - SHARE_TRUSTED) * len(y))
    source = np.arange(n) % SOURCES
    trusted = (x[n:], y[n:])
    found = spaces(x[:n], y[:n], [f"s{k}" for k in source], classes=int(y.max()) + 1, trusted=trusted, seed=seed)
    return found, y[:n], source, y[n:]


def least_p_value(given: Measured, seed: int, rate: float = DECLARED, permutations: int = 99) -> tuple[float, bool]:
    """Of one clean dataset, a draw of 70 % of the records: the least p-value, and whether anything was removed."""
    found, labels, source, trusted_labels = given
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(labels), int(SHARE_DRAWN * len(labels)), replace=False))
    parts = {field.name: getattr(found, field.name) for field in fields(found)}
    drawn = Spaces(**{name: part and Space(part.records[rows], part.trusted) for name, part in parts.items()})
    origins = [f"s{k}" for k in source[rows]]
    scores, _ = score_all(members({name: {} for name in DETECTORS}), drawn, labels[rows], trusted_labels, origins)
    decision = decide(
        scores,
        labels[rows],
        origins,
        trusted_labels,
        false_alarm_rate=rate,
        permutations=permutations,
        generator=rng,
        views=views(drawn),
    )
    values = [one.p_value for one in decision.classes if one.p_value is not None]
    return min(values), bool(decision.removed.any())


def test_clean_tables_lose_anything_in_no_more_runs_than_declared() -> None:
    """24 datasets at 5 %: 10 alarms or more have a chance below 10**-6 when each is independent of the others."""
    found = [least_p_value(measured("wine", seed % 2), seed) for seed in range(24)]
    assert sum(removed for _, removed in found) <= binom.ppf(1 - 1e-6, 24, 0.05)


def alarms(rate: float) -> tuple[int, int]:
    """Of 1,000 clean datasets, how many lose any record at a rate, and how many have a p-value of at most the rate.

    Three real data sets, twelve deals each with proxies of their own, and draws of 70 % of the records.
    """
    names = list(DATA)
    found = [least_p_value(measured(names[k % 3], k // 3 % 12), 10_000 + k, rate) for k in range(1000)]
    return sum(removed for _, removed in found), sum(value <= rate for value, _ in found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_clean_datasets_of_three_kinds_lose_anything_in_at_most_86() -> None:
    """At 5 % a correct build passes 86 alarms in one seed of 10**6, one of a true rate of 10 % in one of twelve."""
    assert binom.ppf(1 - 1e-6, 1000, DECLARED) == ALLOWED
    assert binom.cdf(ALLOWED, 1000, 0.10) < 1 / 12
    assert max(alarms(DECLARED)) <= ALLOWED


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_same_count_fails_a_filter_that_alarms_in_one_clean_dataset_of_ten() -> None:
    """The mutant says 5 % and cuts at 27 %: it loses records in 98 of these datasets, about a tenth."""
    lost, flagged = alarms(0.27)
    assert 0.09 <= lost / 1000 <= 0.11
    assert lost > ALLOWED
    assert flagged > ALLOWED


def test_the_default_detectors_are_all_that_are_tried_here() -> None:
    assert sorted(FilterConfig().detectors) == sorted(DETECTORS)
