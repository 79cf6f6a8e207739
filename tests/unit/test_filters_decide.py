"""The decision: a stated false-alarm rate, planted sub-populations found and cut cleanly, and clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from assay.errors import UnfitInput
from assay.filters import Floats, Labels
from assay.filters import decide as module
from assay.filters.decide import ALL_SOURCES, Decision, Scores, decide

NONE = np.empty(0, dtype=np.int64)
Draw = Callable[[np.random.Generator, int], Floats]


def decided(
    scores: dict[str, Scores],
    labels: Labels,
    groups: list[str],
    trusted_labels: Labels = NONE,
    *,
    rate: float = 0.05,
    permutations: int = 199,
    seed: int = 0,
    **limits: float,
) -> Decision:
    generator = np.random.default_rng(seed)
    options = {"false_alarm_rate": rate, "permutations": permutations, "generator": generator, **limits}
    return decide(scores, labels, groups, trusted_labels, **options)  # type: ignore[arg-type]


def clean_run(seed: int, draw: Draw) -> Decision:
    """Three classes, sources of unequal size, a few trusted records, three detectors that depend on each other."""
    rng = np.random.default_rng(seed)
    labels, trusted_labels = np.arange(120) % 3, np.arange(24) % 3
    groups = [f"s{k}" for k in rng.choice(3, 120, p=[0.5, 0.3, 0.2])]
    shared = draw(rng, 144)
    scores = {}
    for name in ("one", "two", "three"):
        values = shared + 0.5 * draw(rng, 144) + np.concatenate([labels, trusted_labels])
        scores[name] = Scores(values[:120], values[120:])
    return decided(scores, labels, groups, trusted_labels, permutations=99, seed=seed, clean_loss=0.5)


def heavy(rng: np.random.Generator, n: int) -> Floats:
    return rng.standard_t(1.5, n)


def coarse(rng: np.random.Generator, n: int) -> Floats:
    return rng.integers(0, 4, n).astype(np.float64)


def alarms(runs: int, draw: Draw) -> int:
    return sum(clean_run(seed, draw).removed.any() for seed in range(runs))


def test_clean_data_lose_anything_in_no_more_runs_than_declared() -> None:
    """300 runs at 5 %: a correct build exceeds the bound in fewer than one of 10**6 seeds; without the family-wise
    correction (next test) it is passed by far."""
    assert alarms(300, heavy) <= binom.ppf(1 - 1e-6, 300, 0.05)


def test_without_the_correction_for_many_looks_the_alarms_would_be_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: each comparison held to the rate by itself. Shows that the test above can fail."""
    permuted, single = module.permuted, []

    def first_only(*given_: Any) -> Floats:
        """Permutations of the first detector and contrast alone; what was observed stays."""
        statistics = permuted(*given_)
        statistics[1:, :, 1:] = statistics[:, 1:, 1:] = 0
        statistics[:, :, 1:] *= not single
        single.append(True)
        return statistics

    def one_run(seed: int) -> bool:
        single.clear()
        return bool(clean_run(seed, heavy).removed.any())

    monkeypatch.setattr(module, "permuted", first_only)
    assert sum(one_run(seed) for seed in range(60)) > binom.ppf(1 - 1e-6, 60, 0.05)


@pytest.mark.slow
def test_twenty_classes_raise_no_more_alarms_than_one() -> None:
    """100 runs at 5 %: a correct build exceeds the bound in fewer than one of 10**6 seeds; held to one class, most."""
    runs = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        labels, groups = np.arange(600) % 20, [f"s{k}" for k in rng.choice(3, 600)]
        scores = {"one": Scores(rng.standard_normal(600), np.empty(0))}
        found = decided(scores, labels, groups, permutations=99, seed=seed)
        runs += any(one.p_value is not None and one.p_value <= 0.05 for one in found.classes)
    assert runs <= binom.ppf(1 - 1e-6, 100, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("draw", [heavy, coarse])
def test_clean_data_lose_anything_in_no_more_runs_than_declared_long(draw: Draw) -> None:
    """5,000 runs: a mutant with a true rate of 10 % fails."""
    bound = binom.ppf(1 - 1e-6, 5000, 0.05)
    assert bound < 0.07 * 5000
    assert alarms(5000, draw) <= bound


def planted_scene(
    shift: float = 8.0, planted: int = 30, seed: int = 0, origin: int = 1
) -> tuple[dict[str, Scores], Labels, list[str], Labels, np.ndarray]:
    """Class 0 of two holds planted records of one source, ``shift`` spreads above the clean ones."""
    rng = np.random.default_rng(seed)
    labels = np.arange(240) % 2
    source = np.arange(240) // 2 % 3
    bad = np.zeros(240, dtype=np.bool_)
    bad[np.flatnonzero((labels == 0) & (source == origin))[:planted]] = True
    values = rng.standard_normal(240) + shift * bad
    trusted_labels = np.arange(40) % 2
    scores = {"noise": Scores(rng.standard_normal(240), rng.standard_normal(40))}
    scores["signal"] = Scores(values, rng.standard_normal(40))
    return scores, labels, [f"s{k}" for k in source], trusted_labels, bad


def test_a_separated_sub_population_of_one_source_is_removed_whole_and_nothing_else() -> None:
    scores, labels, groups, trusted_labels, bad = planted_scene()
    found = decided(scores, labels, groups, trusted_labels)
    assert (found.removed == bad).all()
    verdict = found.classes[0]
    assert (verdict.status, verdict.detector, verdict.origin, verdict.quarantined) == ("poisoned", "signal", "s1", 30)
    assert verdict.p_value == pytest.approx(1 / 200)
    assert found.classes[1].status == "clean"
    assert [found.detectors[k] for k in set(found.by[bad].tolist())] == ["signal"]
    assert (found.by[~bad] == -1).all()


def test_a_flipped_score_finds_nothing() -> None:
    """The mutant of a sign: the planted records are then the least suspicious."""
    scores, labels, groups, trusted_labels, bad = planted_scene()
    flipped = {name: Scores(-score.records, -score.trusted) for name, score in scores.items()}
    assert not decided(flipped, labels, groups, trusted_labels).removed[bad].any()


def test_overlapping_poison_is_mostly_found_and_few_clean_records_are_lost() -> None:
    """Three and a half spreads apart, forty scenes: the cut is dear to clean records, five to one."""
    caught, lost = [], []
    for seed in range(40):
        scores, labels, groups, trusted_labels, bad = planted_scene(shift=3.5, seed=seed)
        removed = decided(scores, labels, groups, trusted_labels).removed
        caught.append(removed[bad].mean())
        lost.append(removed[~bad].mean())
    assert np.mean(caught) >= 0.8
    assert np.mean(lost) <= 0.01


def test_poison_of_every_source_alike_is_found_by_the_trusted_records_alone() -> None:
    rng = np.random.default_rng(1)
    labels, source = np.zeros(240, dtype=np.int64), np.arange(240) % 3
    bad = np.arange(240) < 100
    score = Scores(rng.standard_normal(240) + 8.0 * bad, rng.standard_normal(60))
    trusted_labels = np.zeros(60, dtype=np.int64)
    found = decided({"d": score}, labels, [f"s{k}" for k in source], trusted_labels)
    assert found.classes[0].origin == ALL_SOURCES
    assert (found.removed == bad).all()
    without = decided({"d": Scores(score.records, np.empty(0))}, labels, [f"s{k}" for k in source])
    assert without.classes[0].status == "clean"


def test_two_poisoned_sources_are_both_cut() -> None:
    rng = np.random.default_rng(2)
    labels, source = np.zeros(400, dtype=np.int64), np.arange(400) % 4
    bad = (source < 2) & (np.arange(400) < 200)
    score = Scores(rng.standard_normal(400) + 9.0 * bad, rng.standard_normal(50))
    found = decided({"d": score}, labels, [f"s{k}" for k in source], np.zeros(50, dtype=np.int64))
    assert found.removed[bad].all()
    assert found.removed[~bad].sum() <= 2


def test_no_more_clean_records_go_than_declared() -> None:
    """Forty scenes of overlapping poison: the mean stays within either rate, and a mutant without them is caught."""

    def lost(**limits: float) -> tuple[float, float]:
        """Mean share of all clean records that went, and of clean ones among all that went."""
        clean, share = [], []
        for seed in range(40):
            scores, labels, groups, trusted_labels, bad = planted_scene(shift=2.5, seed=seed)
            removed = decided(scores, labels, groups, trusted_labels, **limits).removed
            clean.append(removed[~bad].mean())
            share.append((removed & ~bad).sum() / max(1, removed.sum()))
        return float(np.mean(clean)), float(np.mean(share))

    assert lost(clean_loss=0.01, false_discovery_share=0.9)[0] <= 0.01
    assert lost(clean_loss=0.9, false_discovery_share=0.05)[1] <= 0.05
    clean, share = lost(clean_loss=0.9, false_discovery_share=0.9)
    assert clean > 0.01
    assert share > 0.05


def differing_scene(flagged: int, *, instrument: bool = False, sources: tuple[int, ...] = (1,)) -> Decision:
    """Ten classes of 60; in the first ones all of some sources, poisoned or not, is above all of the others'."""
    rng = np.random.default_rng(0)
    labels, source = np.arange(600) % 10, np.arange(600) // 10 % 3
    values = rng.standard_normal(600) + 9.0 * ((labels < flagged) & np.isin(source, sources))
    return decided({"d": Scores(values, np.empty(0), instrument=instrument)}, labels, [f"s{k}" for k in source])


def test_an_instrument_is_no_suspect_in_several_classes() -> None:
    """In one or two classes a source that is so is suspected as ever; in three of ten it is left alone, and told."""
    found = [differing_scene(flagged, instrument=True) for flagged in (1, 2, 3, 10)]
    assert [int(one.removed.sum()) for one in found] == [20, 40, 0, 0]
    assert [one.set_aside for one in found] == [{}, {}, *[{"d": "so in several classes: origin s1"}] * 2]
    assert differing_scene(10, instrument=True, sources=(0, 2)).set_aside == {
        "d": "so in several classes: origin s0, s2"
    }
    assert {one.status for one in found[3].classes} == {"clean"}
    assert min(one.p_value for one in found[3].classes if one.p_value) > 0.05


def test_a_source_that_differs_in_many_classes_loses_no_more_than_declared() -> None:
    """Of 600 records 1.8 may be clean. In one or two classes a whole source goes, as poison would; in three none."""
    assert [int(differing_scene(flagged).removed.sum()) for flagged in (1, 2, 3, 10)] == [20, 40, 0, 0]
    assert [one.status for one in differing_scene(3).classes] == ["differs"] * 3 + ["clean"] * 7


def test_one_source_is_compared_with_the_trusted_records() -> None:
    rng = np.random.default_rng(3)
    bad = np.arange(100) < 40
    score = Scores(rng.standard_normal(100) + 8.0 * bad, rng.standard_normal(30))
    found = decided({"d": score}, np.zeros(100, dtype=np.int64), ["only"] * 100, np.zeros(30, dtype=np.int64))
    assert (found.removed == bad).all()


def test_one_source_and_no_trusted_record_is_unmeasured_and_loses_nothing() -> None:
    scores, labels, _, _, _ = planted_scene()
    alone = {name: Scores(score.records, np.empty(0)) for name, score in scores.items()}
    found = decided(alone, labels, ["only"] * 240)
    assert {one.status for one in found.classes} == {"unmeasured"}
    assert {one.p_value for one in found.classes} == {None}
    assert not found.removed.any()


@pytest.mark.parametrize("size", [1, 3, 9])
def test_a_class_of_few_records_is_unmeasured_and_loses_nothing(size: int) -> None:
    rng = np.random.default_rng(4)
    labels = np.concatenate([np.zeros(100, dtype=np.int64), np.ones(size, dtype=np.int64)])
    values = rng.standard_normal(100 + size) + 100.0 * labels
    found = decided({"d": Scores(values, np.empty(0))}, labels, [f"s{k % 2}" for k in range(100 + size)])
    assert found.classes[1].status == "unmeasured"
    assert not found.removed[labels == 1].any()


def test_records_at_or_below_the_floor_never_go() -> None:
    scores, labels, groups, trusted_labels, bad = planted_scene()
    signal = scores["signal"]
    high = float(np.sort(signal.records[bad])[20])
    floored = {"signal": Scores(signal.records, signal.trusted, floor=high)}
    removed = decided(floored, labels, groups, trusted_labels).removed
    assert removed.any()
    assert (signal.records[removed] > high).all()


def test_constant_scores_say_nothing() -> None:
    """Ties are no order: sorting by row would otherwise make the first source look suspect."""
    labels, groups = np.zeros(90, dtype=np.int64), ["a"] * 30 + ["b"] * 30 + ["c"] * 30
    found = decided({"d": Scores(np.ones(90), np.empty(0))}, labels, groups)
    assert found.classes[0].p_value == 1.0
    assert not found.removed.any()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10)
def test_the_order_of_tied_records_does_not_matter(seed: int) -> None:
    """Observed statistics depend on the multiset of (score, origin) alone; so does what is removed."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, 120).astype(np.float64)
    source = (np.arange(120) % 3).astype(np.int64)
    values[source == 0] += rng.integers(0, 3, 40)
    order = rng.permutation(120)
    labels = np.zeros(120, dtype=np.int64)
    one = decided({"d": Scores(values, np.empty(0))}, labels, [f"s{k}" for k in source], permutations=2000)
    two = decided(
        {"d": Scores(values[order], np.empty(0))}, labels, [f"s{k}" for k in source[order]], permutations=2000
    )
    a, b = one.classes[0].p_value, two.classes[0].p_value
    assert a is not None
    assert b is not None
    assert abs(a - b) <= 0.06  # Monte Carlo error alone: 5 standard errors at most
    if max(a, b) < 0.01:
        assert (one.removed[order] == two.removed).all()


def test_same_seed_same_decision() -> None:
    scores, labels, groups, trusted_labels, _ = planted_scene(shift=2.5)
    one, two = (decided(scores, labels, groups, trusted_labels, seed=5) for _ in range(2))
    assert one.classes == two.classes
    assert (one.removed == two.removed).all()


def test_joined_detectors_see_the_same_records() -> None:
    """A second flagged detector adds what the first missed only where both point at one sub-population."""
    rng = np.random.default_rng(6)
    labels, source = np.zeros(300, dtype=np.int64), np.arange(300) % 3
    bad = (source == 0) & (np.arange(300) < 150)
    first, second = rng.standard_normal(300) + 9.0 * bad, rng.standard_normal(300) + 9.0 * bad
    missed = np.flatnonzero(bad)[:3]
    first[missed] = 0.0
    both = {"a": Scores(first, np.empty(0)), "b": Scores(second, np.empty(0))}
    assert decided(both, labels, [f"s{k}" for k in source]).removed[bad].all()
    other = second.copy()
    other[bad], clean = rng.standard_normal(int(bad.sum())), np.flatnonzero((source == 0) & ~bad)
    other[clean] += 9.0
    apart = {"a": Scores(first, np.empty(0)), "b": Scores(other, np.empty(0))}
    removed = decided(apart, labels, [f"s{k}" for k in source]).removed
    assert min(removed[bad].sum(), removed[clean].sum()) == 0


def test_the_expected_clean_records_are_about_those_really_lost() -> None:
    """Over 40 scenes with overlap, the mean of what is announced is within a factor of three of the mean lost."""
    announced, lost = 0.0, 0
    for seed in range(40):
        scores, labels, groups, trusted_labels, bad = planted_scene(shift=3.0, seed=seed)
        found = decided({"signal": scores["signal"]}, labels, groups, trusted_labels)
        announced += found.classes[0].expected_clean
        lost += int(found.removed[~bad].sum())
    assert lost <= 3 * announced
    assert announced <= 3 * max(lost, 10)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"records": np.array([np.nan] * 240)}, "NaN"),
        ({"records": np.zeros(239)}, "one a record"),
        ({"trusted": np.zeros(3)}, "one a record"),
    ],
)
def test_unfit_scores_are_refused(change: dict[str, Floats], match: str) -> None:
    scores, labels, groups, trusted_labels, _ = planted_scene()
    given_ = {"records": scores["signal"].records, "trusted": scores["signal"].trusted} | change
    with pytest.raises(UnfitInput, match=match):
        decided({"signal": Scores(**given_)}, labels, groups, trusted_labels)  # type: ignore[arg-type]


def test_too_few_permutations_for_the_rate_are_refused() -> None:
    scores, labels, groups, trusted_labels, _ = planted_scene()
    with pytest.raises(UnfitInput, match="permutations"):
        decided(scores, labels, groups, trusted_labels, rate=0.001, permutations=99)


def test_origins_of_another_number_are_refused() -> None:
    scores, labels, groups, trusted_labels, _ = planted_scene()
    with pytest.raises(UnfitInput, match="origins"):
        decided(scores, labels, groups[1:], trusted_labels)


@pytest.mark.parametrize("trusted", [0, 60])
def test_where_all_sources_are_suspect_their_planted_records_go_and_the_clean_ones_stay(trusted: int) -> None:
    """Each source plants its own kind, which its own detector sees; with and without trusted records."""
    rng = np.random.default_rng(8)
    source, planted = np.arange(360) % 3, np.arange(360) < 90
    scores = {
        f"d{k}": Scores(rng.standard_normal(360) + 9.0 * (planted & (source == k)), rng.standard_normal(trusted))
        for k in range(3)
    }
    labels = np.zeros(360, dtype=np.int64)
    found = decided(scores, labels, [f"s{k}" for k in source], np.zeros(trusted, dtype=np.int64))
    assert found.removed[planted].mean() >= 0.95
    assert found.removed[~planted].mean() <= 0.03  # few are left to measure clean ones by


def test_more_poison_than_clean_in_a_source_never_takes_the_clean_ones_alone() -> None:
    """Two thirds of a source's class are planted: whatever goes is the planted part, not the remaining clean third."""
    scores, labels, groups, trusted_labels, _ = planted_scene()
    source = np.array(groups)
    bad = np.zeros(240, dtype=np.bool_)
    bad[np.flatnonzero((labels == 0) & (source == "s1"))[:27]] = True
    values = np.random.default_rng(9).standard_normal(240) + 8.0 * bad
    removed = decided({"d": Scores(values, scores["noise"].trusted)}, labels, groups, trusted_labels).removed
    assert removed[bad].all()
    assert removed[~bad].sum() <= 1
