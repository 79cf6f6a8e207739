"""The stated share of clean records beyond a detector's cut, on clean records that are anything but Gaussian.

Reference: given the trusted records that set the cut, the share of clean records beyond it is Beta(k, n + 1 - k)
distributed, n of them, k = floor(rate (n + 1)), whatever the detector and however scores are distributed, so the count
among m clean records is beta-binomial (Vovk 2012); tied scores only lower it. The bound below is the quantile of a sum
of such counts that is exceeded with a chance of 10**-8, so that all tests of this file together fail for no reason
less than once in 10**6 times.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from model_cases import dataset as columns_of
from model_cases import images
from scipy.stats import betabinom

from assay import catalog
from assay.config.base import parse
from assay.config.sanitize import SanitizeConfig
from assay.sanitize import detect as detecting
from assay.sanitize.detect import detect

FAMILY = "sanitize.detectors"
NAMES = catalog.names(FAMILY)
CHANCE, RATE = 1e-8, 0.03
Draw = Callable[[np.random.Generator, int], tuple[Any, Any]]


def bound(rounds: int, judges: int, records: int, rate: float, pairs: bool = False) -> int:
    """What the sum of ``rounds`` counts exceeds with a chance of 10**-8."""
    k = int(rate * (judges + 1) * (1 + 1e-12))
    each = betabinom(records // 2 if pairs else records, k, judges + 1 - k)
    one = each.pmf(np.arange(each.args[0] + 1))
    total = np.ones(1)
    for _ in range(rounds):
        total = np.convolve(total, one)
    beyond = total[::-1].cumsum()[::-1]  # from the far end, where the small chances are
    return int(np.flatnonzero(beyond <= CHANCE)[0]) * (2 if pairs else 1)


def t3(rng: np.random.Generator, count: int) -> tuple[Any, Any]:
    """Tails as heavy as Student's with three degrees of freedom."""
    return rng.standard_t(3, (count, 5)), rng.integers(0, 3, count)


def lognormal(rng: np.random.Generator, count: int) -> tuple[Any, Any]:
    return rng.lognormal(0, 1.5, (count, 5)), rng.integers(0, 3, count)


def mixture(rng: np.random.Generator, count: int) -> tuple[Any, Any]:
    """A bulk, a far group of one in twelve, and a wide one of one in twenty; labels follow."""
    y = rng.choice(3, count, p=[0.867, 0.083, 0.05])
    return np.array([0, 25, 0])[y][:, None] + np.array([1, 1, 12])[y][:, None] * rng.normal(size=(count, 4)), y


def correlated(rng: np.random.Generator, count: int) -> tuple[Any, Any]:
    """Eight columns that are one and a little noise."""
    one = rng.normal(size=(count, 1))
    return one + 0.01 * rng.normal(size=(count, 8)), (one[:, 0] > 0).astype(np.int64)


def discrete(rng: np.random.Generator, count: int) -> tuple[Any, Any]:
    """Binary, rare, counted and categorical columns, one of them almost always 0."""
    chances = np.array([0.5, 0.9, 0.03, 0.003])
    binary = (rng.random((count, 4)) < chances).astype(float)
    x = np.column_stack([binary, rng.poisson(2, count), rng.choice([1, 2, 7, 99], count)])
    return x, rng.integers(0, 2, count)


def pictures(rng: np.random.Generator, count: int) -> tuple[Any, Any]:
    """8x8 uint8: a bar in one of four places, its brightness skewed, on faint noise; the edge never lit."""
    y = rng.integers(0, 4, count)
    x = np.zeros((count, 8, 8))
    x[:, 1:7, 1:7] = rng.exponential(4, (count, 6, 6))
    for k in range(4):
        x[y == k, 1 + k, 1:7] += rng.gamma(2, 40, (int((y == k).sum()), 1))
    return np.clip(x, 0, 255).astype(np.uint8), y


DRAWS: tuple[Draw, ...] = (t3, lognormal, mixture, correlated, discrete, pictures)


def made(x: Any, y: Any) -> Any:
    if x.ndim == 3:
        return images(x, y, 4)
    import pyarrow as pa

    return columns_of({f"f{k}": pa.array(x[:, k]) for k in range(x.shape[1])}, y, 4)


def suspicious(name: str, given: Any, trusted: Any) -> int:
    settings = {"epochs": 5} if name == "autoencoder" else {}
    config = parse(SanitizeConfig, {"detectors": {name: {"rate": RATE, "settings": settings}}}, "s")
    return len(detect(given, np.ones(len(given), bool), trusted, config)[0].findings)


def realised(name: str, draw: Draw, rounds: int, records: int, seed: int = 0) -> int:
    """Clean records called suspicious in ``rounds`` draws of trusted records and others."""
    rng = np.random.default_rng([seed, *draw.__name__.encode()])
    return sum(suspicious(name, made(*draw(rng, records)), made(*draw(rng, records))) for _ in range(rounds))


@pytest.mark.slow
@pytest.mark.parametrize("draw", DRAWS, ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_no_more_clean_records_are_suspicious_than_is_stated(name: str, draw: Draw) -> None:
    """16 draws of 400 trusted and 400 other records. A nearest pair is suspicious together: counted as one."""
    pairs = catalog.member(FAMILY, name).fits == "records"
    count = realised(name, draw, 16, 400)
    assert count <= bound(16, 200, 400, RATE, pairs)


@pytest.mark.parametrize("draw", [t3, discrete], ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("name", ["robust_z", "tukey"])
def test_no_more_are_suspicious_than_is_stated_fast(name: str, draw: Draw) -> None:
    assert realised(name, draw, 4, 400, seed=1) <= bound(4, 200, 400, RATE)


def test_the_bound_notices_a_cut_at_more_than_twice_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: as many trusted records beyond the cut as two and a half times the rate says."""
    monkeypatch.setattr(detecting, "_beyond", lambda rate, count: int(2.5 * rate * (count + 1)))
    assert realised("tukey", lognormal, 16, 400, seed=2) > bound(16, 200, 400, RATE)


def test_the_bound_is_that_of_simulated_ranks() -> None:
    """Reference: counts among exchangeable scores, drawn; the quantile at 1 % from the same convolution."""
    rng = np.random.default_rng(0)
    scores = rng.random((20_000, 300))
    cut = np.sort(scores[:, :100], axis=1)[:, 100 - 3]
    counts = (scores[:, 100:] > cut[:, None]).sum(axis=1)
    expected = betabinom(200, 3, 98)
    assert counts.mean() == pytest.approx(expected.mean(), rel=0.03)
    assert (counts >= expected.ppf(0.99)).mean() == pytest.approx(expected.sf(expected.ppf(0.99) - 1), rel=0.3)


TABLES = {"elec.csv": "class", "credit-card-clients.csv": "default payment", "bikeshare.csv": "season"}


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", NAMES)
def test_the_rate_holds_on_real_tables_divided_at_random(shared_data: Path, name: str, table: str) -> None:
    """Six disjoint blocks of a random order, 800 trusted and 800 other records each: exchangeable, so the law holds."""
    frame = pd.read_csv(shared_data / "tabular" / table)
    y = pd.factorize(frame.pop(TABLES[table]), sort=True)[0]
    x = frame.select_dtypes("number").to_numpy(np.float64)
    order = np.random.default_rng([7, *table.encode()]).permutation(len(y))[: 6 * 1600].reshape(6, 2, 800)
    count = sum(suspicious(name, made(x[b], y[b]), made(x[a], y[a])) for a, b in order)
    pairs = catalog.member(FAMILY, name).fits == "records"
    print(f"{table} {name}: {count / 4800:.4f} of {RATE}")
    assert count <= bound(6, 400, 800, RATE, pairs)
