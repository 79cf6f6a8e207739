"""What every drift statistic promises, whichever it is: found by looking into the family, not by a list."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from assay import catalog
from assay.drift.feature import Measured
from assay.errors import UnfitInput, UnknownName

NAMES = catalog.names("drift")
LEVEL = 0.05
WINDOWS = 1000


def values(kind: str, rng: np.random.Generator, size: int, shift: float = 0.0) -> Any:
    """Numbers with ties, or categories of which one is rare; ``shift`` moves either."""
    if kind == "number":
        return np.round(rng.normal(shift, 1.0, size), 2)
    shares = np.array([0.5 - shift / 5, 0.3 + shift / 5, 0.19, 0.01])
    return rng.choice(np.array(["a", "b", "c", "rare"]), size=size, p=shares)


def measure(name: str, reference: Any, current: Any, level: float = LEVEL, seed: int = 0) -> Measured:
    found = catalog.build("drift", name)(reference, current, level=level, generator=np.random.default_rng(seed))
    assert isinstance(found, Measured)
    return found


CASES = [(name, kind) for name in NAMES for kind in catalog.member("drift", name).speaks]


def test_the_family_is_found() -> None:
    assert {"ks", "chi2", "psi"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_member_is_a_frozen_dataclass_that_refuses_unknown_settings(name: str) -> None:
    member = catalog.build("drift", name)
    assert dataclasses.is_dataclass(member)
    with pytest.raises(dataclasses.FrozenInstanceError):
        member.anything = 1
    with pytest.raises(UnknownName):
        catalog.build("drift", name, {"no_such_setting": 1})


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_no_change_alarms_no_more_often_than_the_level_says(name: str, kind: str) -> None:
    """Statistical: a correct build fails at most once in 10**6 seeds, in each direction that is checked."""
    rng = np.random.default_rng(7)
    p_values = np.array(
        [measure(name, values(kind, rng, 150), values(kind, rng, 80), seed=k).p_value for k in range(WINDOWS)]
    )
    assert (p_values <= LEVEL).sum() <= binom.ppf(1 - 1e-6, WINDOWS, LEVEL)
    assert (p_values <= LEVEL).sum() >= binom.ppf(1e-6, WINDOWS, LEVEL / 2), "a test that hardly ever alarms"


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_plain_shift_is_found(name: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    found = measure(name, values(kind, rng, 1000), values(kind, rng, 500, shift=1.0), level=1e-4)
    assert 0 < found.p_value <= 1e-4
    if found.null_quantile is not None:
        assert found.value > found.null_quantile


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_equal_samples_look_equal(name: str, kind: str) -> None:
    sample = values(kind, np.random.default_rng(2), 300)
    assert measure(name, sample, sample).p_value > 0.99


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_constant_feature_does_not_drift(name: str, kind: str) -> None:
    constant = np.full(60, 1.0) if kind == "number" else np.full(60, "only")
    assert measure(name, constant, constant).p_value == 1.0


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_same_seed_same_answer_whatever_the_order_of_records(name: str, kind: str) -> None:
    rng = np.random.default_rng(3)
    reference, current = values(kind, rng, 200), values(kind, rng, 100, shift=0.5)
    first = measure(name, reference, current)
    assert first == measure(name, rng.permutation(reference), rng.permutation(current))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_nothing_to_measure_is_an_error_and_never_a_p_value(name: str, kind: str) -> None:
    sample = values(kind, np.random.default_rng(4), 100)
    for reference, current in ((sample, sample[:0]), (sample[:0], sample), (sample[:0], sample[:0])):
        with pytest.raises(UnfitInput):
            measure(name, reference, current)


@pytest.mark.parametrize("name", [name for name, kind in CASES if kind == "number"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_an_error_and_never_a_p_value(name: str, bad: float) -> None:
    sample = values("number", np.random.default_rng(5), 100)
    broken = np.append(sample, bad)
    for reference, current in ((sample, broken), (broken, sample), (sample, np.full(100, bad))):
        with pytest.raises(UnfitInput):
            measure(name, reference, current)


def test_the_whole_family_is_free_of_torch() -> None:
    code = "import sys\nfrom assay import catalog\nfor n in catalog.names('drift'): catalog.member('drift', n)\n"
    code += "import assay.drift.page, assay.monitor\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
