"""Stopping early: the confidence sequence exactly, the verdict of all records, and what is saved."""

from __future__ import annotations

import numpy as np
import pytest
from evaluate_cases import digits, trained
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from assay.attempts import confidence_at
from assay.config.evaluate import EvaluateConfig
from assay.errors import UnfitInput, UnknownName
from assay.estimate import RISK, Estimate, curtailed, proportion, settled
from assay.evaluate import summary
from assay.evaluate.ladder import ladder
from assay.evaluate.measure import Plan, measure
from assay.evaluate.sequential import measure_until
from assay.threat import ThreatModel

THREAT = ThreatModel(epsilon=0.1)
NAME = "robust_accuracy/linf:0.1"


@given(trials=st.integers(0, 400), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95]))
def test_of_all_records_it_is_the_share_with_its_exact_interval(trials: int, share: float, confidence: float) -> None:
    successes = round(share * trials)
    assert curtailed(successes, trials, trials, confidence) == proportion(successes, trials, confidence)


@settings(deadline=None)
@given(population=st.integers(1, 300), data=st.data(), risk=st.sampled_from([1e-3, 1e-2]))
def test_the_counts_left_are_those_of_scipys_hypergeometric(population: int, data: st.DataObject, risk: float) -> None:
    trials = data.draw(st.integers(0, population - 1))
    successes = data.draw(st.integers(0, trials))
    made = curtailed(successes, trials, population, 0.95, risk)
    likely = hypergeom.pmf(successes, population, np.arange(population + 1), trials) * (trials + 1)
    left = np.flatnonzero(likely >= risk * (1 + 1e-9))
    assert made.counts["least"] <= left[0]
    assert made.counts["most"] >= left[-1]
    assert (likely[[made.counts["least"], made.counts["most"]]] >= risk * (1 - 1e-9)).all()
    assert made.low == proportion(made.counts["least"], population, 0.95 + risk).low
    assert made.high == proportion(made.counts["most"], population, 0.95 + risk).high


def chance_that_ever(population: int, good: int, happens) -> float:
    """Exact: the chance that a condition on (successes, trials) holds at some time, by dynamic programming."""
    now, ever = np.zeros(population + 1), 0.0
    now[0] = 1.0
    for trials in range(population):
        hit = np.array([now[s] > 0 and happens(s, trials) for s in range(population + 1)])
        ever += float(now[hit].sum())
        now[hit] = 0
        chance = np.clip((good - np.arange(population + 1)) / (population - trials), 0, 1)
        after = now * (1 - chance)
        after[1:] += (now * chance)[:-1]
        now = after
    return ever


@pytest.mark.parametrize("good", [0, 3, 17, 30, 45, 60])
def test_the_true_count_is_ever_ruled_out_as_seldom_as_stated(good: int) -> None:
    """Exact, looking after every single record: no sampling error in this check."""

    def ruled_out(successes: int, trials: int) -> bool:
        counts = curtailed(successes, trials, 60, 0.9, 0.02).counts
        return not counts["least"] <= good <= counts["most"]

    assert chance_that_ever(60, good, ruled_out) <= 0.02


def verdict(estimate: Estimate, bar: float) -> str:
    return "holds" if estimate.low >= bar else "misses" if estimate.high < bar else "unclear"


@pytest.mark.parametrize("good", [20, 26, 30, 33, 37, 41, 48])
def test_a_settled_verdict_is_that_of_all_records_but_for_the_stated_chance(good: int) -> None:
    """Exact for 60 records, a bar of one half and a look after every record."""
    whole = verdict(proportion(good, 60, 0.9), 0.5)

    def other(successes: int, trials: int) -> bool:
        made = curtailed(successes, trials, 60, 0.9, 0.02)
        return settled(made, 0.5) and verdict(made, 0.5) != whole

    assert chance_that_ever(60, good, other) <= 0.02


def simulated(models: int, records: int, bar: float, spread: tuple[float, float], seed: int) -> tuple[int, float]:
    """Disagreements with the verdict of all records, and the mean share of the records that were looked at."""
    draw, wrong, work = np.random.default_rng(seed), 0, 0.0
    for share in draw.uniform(*spread, models):
        stands = draw.random(records) < share
        whole = verdict(proportion(int(stands.sum()), records), bar)
        for trials in [*range(64, records, 64), records]:
            made = curtailed(int(stands[:trials].sum()), trials, records)
            if settled(made, bar):
                break
        wrong += verdict(made, bar) != whole
        work += trials / records
    return wrong, work / models


@pytest.mark.slow
def test_500_simulated_models_get_the_verdict_of_all_records_for_a_third_of_the_work() -> None:
    """At a stated chance of 1e-3 each, more than 6 disagreements of 500 have a chance below 1e-6."""
    wrong, work = simulated(500, 2000, 0.5, (0.0, 1.0), seed=1)
    assert wrong <= 6
    assert work <= 0.35


def test_a_few_simulated_models_get_the_verdict_of_all_records() -> None:
    wrong, work = simulated(40, 1000, 0.6, (0.0, 1.0), seed=2)
    assert wrong <= 3
    assert work <= 0.5


@pytest.mark.parametrize("counts", [(3, 2, 10), (-1, 2, 10), (1, 11, 10)])
def test_counts_that_cannot_be_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(UnfitInput):
        curtailed(*counts)
    with pytest.raises(UnfitInput):
        curtailed(1, 2, 10, 0.9995)


def test_a_bar_beyond_the_last_count_stays_open_until_the_end() -> None:
    assert not settled(curtailed(30, 60, 400), 0.5)
    assert settled(proportion(200, 400), 0.5)


def small() -> Plan:
    return Plan(threats=(THREAT,), rungs=ladder({"pgd": {"steps": 5, "restarts": 1}}), block_records=40)


def test_it_stops_when_the_verdict_is_settled_and_says_what_all_records_say() -> None:
    x, y = (part[:240] for part in digits())
    whole = measure(trained(), x, y, small())
    full = summary.estimates(whole, small(), 0.95)[NAME]
    for bar, share in ((0.95, 0.5), (0.02, 1.0)):
        found = measure_until(trained(), x, y, small(), {NAME: bar}, 0.95)
        made = summary.estimates(found, small(), 0.95, y.numpy())[NAME]
        assert verdict(made, bar) == verdict(full, bar)
        assert made.n == len(found.predicted) <= share * 240
        assert [block.index for block in found.blocks] == list(range(len(found.blocks)))
        assert np.array_equal(found.by[THREAT.key], whole.by[THREAT.key][: made.n]), "the same blocks, the same draws"
        assert made.low <= full.low
        assert made.high >= full.high


def test_left_out_the_confidence_is_what_the_gate_asks_at_a_first_attempt() -> None:
    decide = {"robust_accuracy/linf:0.1": 0.5}
    assert EvaluateConfig().confidence == 0.95
    assert 0.97 == EvaluateConfig(decide=decide).confidence >= confidence_at(0.95, 1)
    assert EvaluateConfig(decide=decide, confidence=0.95).confidence == 0.95
    assert EvaluateConfig(**EvaluateConfig(decide=decide).to_json()) == EvaluateConfig(decide=decide)


def test_a_bar_for_what_is_not_measured_is_refused() -> None:
    x, y = (part[:40] for part in digits())
    with pytest.raises(UnknownName, match=r"linf:0\.1"):
        measure_until(trained(), x, y, small(), {"robust_accuracy/linf:0.2": 0.5}, 0.95)


def test_the_chances_of_several_bars_add_up_to_the_stated_one() -> None:
    wide, narrow = (curtailed(30, 60, 400, 0.95, risk) for risk in (RISK / 2, RISK))
    assert wide.low < narrow.low < narrow.high < wide.high
