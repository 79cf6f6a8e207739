"""Rules: pure functions of a case that read the ends of intervals, never points."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from promotion_cases import against_champion, ago, estimate, evidence_about, policy

from assay import catalog
from assay.bernstein import error_difference
from assay.effort import FOLLOW_NO_GRADIENT, beside_training
from assay.errors import UnfitInput, UnknownName
from assay.estimate import proportion
from assay.gate.rules.no_worse_than import NoWorseThan
from assay.gate.verdict import Case

MODEL, OTHER = "a" * 64, "d" * 64
POLICY = policy()


def case(now: datetime | None = None, champion: str = "", signed: bool = True, **changes: Any) -> Case:
    return Case(
        evidence=evidence_about(MODEL, **changes),
        policy=POLICY,
        now=now or datetime.now(UTC),
        signed=signed,
        champion=champion,
    )


def ask(rule: str, asked: Case, **settings: Any) -> str:
    return str(catalog.build("gate.rules", rule, settings)(asked).verdict)


INTERVALS = [  # low, high against a bar of 0.5: at_least, at_most
    (0.50, 0.70, "holds", "unclear"),
    (0.51, 0.70, "holds", "misses"),
    (0.49, 0.70, "unclear", "unclear"),
    (0.30, 0.50, "unclear", "holds"),
    (0.30, 0.49, "misses", "holds"),
    (0.50, 0.50, "holds", "holds"),
    (0.00, 1.00, "unclear", "unclear"),
]


@pytest.mark.parametrize(("low", "high", "at_least", "at_most"), INTERVALS)
def test_a_bar_is_held_against_the_ends_of_the_interval(low: float, high: float, at_least: str, at_most: str) -> None:
    asked = case(estimates={"m": estimate((low + high) / 2, low, high)})
    assert ask("at_least", asked, estimate="m", value=0.5) == at_least
    assert ask("at_most", asked, estimate="m", value=0.5) == at_most


@settings(max_examples=50)
@given(low=st.floats(0, 1), spread=st.floats(0, 1), at=st.floats(0, 1), value=st.floats(0, 1), bar=st.floats(0, 1))
def test_the_point_never_decides(low: float, spread: float, at: float, value: float, bar: float) -> None:
    """Property: two estimates with equal ends and other points get equal verdicts."""
    high = low + (1 - low) * spread
    first, second = low + (high - low) * at, low + (high - low) * value
    first, second = min(max(first, low), high), min(max(second, low), high)
    for rule in ("at_least", "at_most"):
        said = {
            ask(rule, case(estimates={"m": estimate(at, low, high)}), estimate="m", value=bar) for at in (first, second)
        }
        assert len(said) == 1


@settings(max_examples=50)
@given(successes=st.integers(0, 200), more=st.integers(0, 200), bar=st.floats(0.01, 0.99))
def test_a_better_model_is_never_judged_worse(successes: int, more: int, bar: float) -> None:
    """Property: verdicts of at_least are monotone in the successes, those of at_most the other way."""
    order = {"misses": 0, "unclear": 1, "holds": 2}
    worse, better = (
        case(estimates={"m": proportion(count, 200)}) for count in sorted((successes, min(200, successes + more)))
    )
    asked = {"estimate": "m", "value": bar}
    assert order[ask("at_least", worse, **asked)] <= order[ask("at_least", better, **asked)]
    assert order[ask("at_most", worse, **asked)] >= order[ask("at_most", better, **asked)]


UNMEASURED: list[dict[str, Any]] = [
    {"estimates": {}},
    {"estimates": {"other": estimate(0.9, 0.8, 1.0)}},
    {"estimates": {"m": proportion(0, 0)}},
    {"estimates": {"m": estimate(0.9, 0.8, 1.0, confidence=0.9)}},
    {"estimates": {"m": estimate(0.9, 0.8, 1.0)}, "truncated": True},
    {"estimates": {"m/linf:0.1": estimate(0.9, 0.8, 1.0)}},
]


@pytest.mark.parametrize("changes", UNMEASURED)
@pytest.mark.parametrize("rule", ["at_least", "at_most"])
def test_what_was_not_measured_as_asked_is_not_measured(changes: dict[str, Any], rule: str) -> None:
    bar = 0.1 if rule == "at_least" else 0.99
    assert ask(rule, case(**changes), estimate="m", value=bar) == "not_measured"


@pytest.mark.parametrize("threat", ["linf:0.2", "linf:0.05", "l2:0.1", "linf:0.1:[-1,1]", "linf:25/255"])
def test_evidence_for_one_threat_never_answers_for_another(threat: str) -> None:
    assert ask("at_least", case(), estimate="robust_accuracy", value=0.1, threat=threat) == "not_measured"
    assert ask("at_least", case(), estimate="robust_accuracy", value=0.1) == "not_measured"


@pytest.mark.parametrize("threat", ["linf:0.1", "linf:1/10", "linf:1e-1"])
def test_one_threat_may_be_written_in_several_ways(threat: str) -> None:
    assert ask("at_least", case(), estimate="robust_accuracy", value=0.1, threat=threat) == "holds"


def test_a_threat_in_another_box_is_found_by_its_key() -> None:
    from assay.evidence import robust
    from assay.threat import ThreatModel

    key = robust("robust_accuracy", ThreatModel(epsilon=0.5, bounds=(-1.0, 1.0)))
    asked = case(estimates={key: proportion(90, 100)})
    assert ask("at_least", asked, estimate="robust_accuracy", value=0.5, threat="linf:0.5:[-1,1]") == "holds"
    assert ask("at_least", asked, estimate="robust_accuracy", value=0.5, threat="linf:0.5") == "not_measured"
    rule = catalog.build("gate.rules", "at_least", {"estimate": "robust_accuracy", "value": 0.5, "threat": "linf:0.5"})
    assert 'write threat: "linf:0.5:[-1,1]"' in rule(asked).note
    rule = catalog.build("gate.rules", "at_least", {"estimate": "claen_accuracy", "value": 0.5})
    assert rule(case(estimates={"clean_accuracy": proportion(9, 10)})).note.endswith("the evidence has clean_accuracy")
    assert rule(case(estimates={})).note.endswith("the evidence has none")


def test_unclear_says_how_many_records_would_settle_it() -> None:
    """Reference: with that many records, all at the measured share, the rule holds; with a tenth fewer it does not."""
    asked = case(estimates={"m": proportion(412, 1000)})
    finding = catalog.build("gate.rules", "at_least", {"estimate": "m", "value": 0.4})(asked)
    n = int(finding.note.split("n=")[1].split()[0])
    settled = case(estimates={"m": proportion(round(0.412 * n) + 1, n)})
    assert (finding.verdict, ask("at_least", settled, estimate="m", value=0.4)) == ("unclear", "holds")
    few = case(estimates={"m": proportion(round(0.412 * 0.9 * n), round(0.9 * n))})
    assert ask("at_least", few, estimate="m", value=0.4) == "unclear"


def test_at_most_says_how_many_records_would_settle_it() -> None:
    finding = catalog.build("gate.rules", "at_most", {"estimate": "m", "value": 0.1})(
        case(estimates={"m": proportion(90, 1000)})
    )
    n = int(finding.note.split("n=")[1].split()[0])
    assert finding.note.startswith("at 0.090")
    assert ask("at_most", case(estimates={"m": proportion(round(0.09 * n) - 1, n)}), estimate="m", value=0.1) == "holds"


NO_WORSE: dict[str, Any] = {"estimate": "clean_accuracy", "margin": 0.05}


@pytest.mark.parametrize("answer", ["holds", "misses", "not_measured"])
def test_without_a_champion_the_policy_says_what_holds(answer: str) -> None:
    assert ask("no_worse_than", case(), without_champion=answer, **NO_WORSE) == answer


def test_a_policy_that_does_not_say_what_holds_without_a_champion_is_refused() -> None:
    with pytest.raises(UnfitInput, match="without_champion"):
        policy({"rule": "no_worse_than", **NO_WORSE})


@pytest.mark.parametrize(
    ("first", "second", "verdict"), [(10, 10, "holds"), (60, 20, "holds"), (0, 300, "misses"), (20, 70, "unclear")]
)
def test_the_paired_difference_is_held_against_the_margin(first: int, second: int, verdict: str) -> None:
    asked = case(champion=OTHER, **against_champion(OTHER, first, second))
    assert ask("no_worse_than", asked, without_champion="holds", **NO_WORSE) == verdict


@pytest.mark.parametrize(("ours", "verdict"), [(0.1, "holds"), (0.52, "holds"), (0.9, "misses"), (0.55, "unclear")])
def test_errors_are_held_against_the_margin_from_above(ours: float, verdict: str) -> None:
    """The champion's error is 0.5 everywhere; an interval of 4,000 records reaches 0.006 to either side."""
    first, second = np.full(4000, ours), np.full(4000, 0.5)
    base = against_champion(OTHER)
    difference = {"mae_minus_champion": error_difference((first, first), (second, second), 1.0)}
    asked = case(champion=OTHER, **base | {"estimates": base["estimates"] | difference})
    told = NoWorseThan(estimate="mae", margin=0.05, without_champion="holds")(asked)
    assert (told.verdict, told.need, told.bar) == (verdict, "<= 0.05", 0.05)


@pytest.mark.parametrize(("compared", "now"), [("", OTHER), (OTHER, ""), (OTHER, "e" * 64)])
def test_only_the_champion_that_stands_now_counts(compared: str, now: str) -> None:
    """Evidence from before somebody else was promoted, or measured without a champion, is no comparison."""
    changes = against_champion(compared) if compared else {}
    assert ask("no_worse_than", case(champion=now, **changes), without_champion="holds", **NO_WORSE) == "not_measured"


def test_a_champion_that_was_not_measured_for_this_estimate_is_not_measured() -> None:
    subjects = against_champion(OTHER)["subjects"]
    assert (
        ask("no_worse_than", case(champion=OTHER, subjects=subjects), without_champion="holds", **NO_WORSE)
        == "not_measured"
    )


@pytest.mark.parametrize(
    ("soundness", "verdict"),
    [
        ({"a": "holds"}, "holds"),
        ({"a": "holds", "b": "not_measured"}, "holds"),
        ({"a": "holds", "b": "misses"}, "misses"),
        ({"a": "not_measured"}, "not_measured"),
        ({}, "not_measured"),
    ],
)
def test_soundness_needs_a_check_that_ran_and_none_that_failed(soundness: dict[str, str], verdict: str) -> None:
    assert ask("sound", case(soundness=soundness)) == verdict


def test_soundness_names_the_checks_that_did_not_run() -> None:
    found = catalog.build("gate.rules", "sound", {})(case(soundness={"a": "holds", "b": "not_measured", "c": "holds"}))
    assert found.note == "2 held; not measured: b"


@pytest.mark.parametrize(
    ("run", "verdict"),
    [
        (ago(minutes=1), "holds"),
        (ago(days=6.99), "holds"),
        (ago(days=7.01), "not_measured"),
        (ago(minutes=-4), "holds"),
        (ago(days=-1), "not_measured"),
        ({}, "not_measured"),
        ({"ended": "yesterday"}, "not_measured"),
        ({"ended": "2026-01-01T00:00:00"}, "not_measured"),
        ({"ended": 5}, "not_measured"),
        ({"ended": None}, "not_measured"),
    ],
)
def test_evidence_counts_from_its_end_for_as_long_as_the_policy_says(run: dict[str, Any], verdict: str) -> None:
    assert ask("freshness", case(run=run)) == verdict


def test_evidence_expires_exactly_at_its_age() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    ends = [now - timedelta(seconds=POLICY.valid_for_s) + timedelta(microseconds=shift) for shift in (-1, 0, 1)]
    assert [ask("freshness", case(now=now, run={"ended": end.isoformat()})) for end in ends] == [
        "not_measured",
        "not_measured",
        "holds",
    ]


@pytest.mark.parametrize(
    ("signed", "assurance", "accept", "verdict"),
    [
        (True, "local", True, "holds"),
        (True, "local", False, "misses"),
        (True, "managed", False, "holds"),
        (False, "local", True, "not_measured"),
        (False, "local", False, "not_measured"),
    ],
)
def test_a_signature_counts_by_its_assurance(signed: bool, assurance: Any, accept: bool, verdict: str) -> None:
    asked = replace(case(signed=signed), assurance=assurance, policy=policy(accept_local_keys=accept))
    assert ask("signed", asked) == verdict


ADVERSARIAL = {"method": "adversarial", "threat": "linf:0.1", "attack": {"settings": {"steps": 7}}}


TWICE = ADVERSARIAL | {"attack": {"settings": {"steps": 7, "restarts": 2}}}


@pytest.mark.parametrize(
    ("trained", "attacks", "verdict"),
    [
        (ADVERSARIAL, {"pgd": {"steps": 40, "restarts": 5}}, "holds"),
        (ADVERSARIAL, {"pgd": {"steps": 7, "restarts": 2}}, "holds"),
        (ADVERSARIAL, {"pgd": {"steps": 13}}, "misses"),
        (ADVERSARIAL, {"pgd": {"steps": 1, "restarts": 100}}, "misses"),
        (ADVERSARIAL, {"pgd": {"steps": 6, "restarts": 9}}, "misses"),
        (TWICE, {"pgd": {"steps": 7, "restarts": 3}}, "misses"),
        (TWICE, {"pgd": {"steps": 7, "restarts": 4}}, "holds"),
        (ADVERSARIAL, {"pgd": {"steps": 7, "restarts": 1}, "fgsm": {}}, "misses"),
        (ADVERSARIAL, {"fgsm": {}}, "misses"),
        (ADVERSARIAL, {}, "not_measured"),
        (ADVERSARIAL, "pgd", "not_measured"),
        (ADVERSARIAL | {"attack": {}}, {"pgd": {"steps": 40}}, "not_measured"),
        (ADVERSARIAL | {"attack": {"settings": {"steps": True}}}, {"pgd": {"steps": 40}}, "not_measured"),
        ({"method": "huber", "threat": ""}, {"fgsm": {}}, "holds"),
        ({"method": "imported", "threat": ""}, {"pgd": {"steps": 40}}, "not_measured"),
        ({}, {"pgd": {"steps": 40}}, "not_measured"),
        (None, {"pgd": {"steps": 40}}, "not_measured"),
    ],
)
def test_the_attack_trained_against_is_no_evidence(trained: Any, attacks: Any, verdict: str) -> None:
    measured = {"trained_against": trained, "attacks": attacks, "threats": {"linf:0.1": {}}}
    assert ask("stronger_than_training", case(measured=measured)) == verdict


@pytest.mark.parametrize("name", FOLLOW_NO_GRADIENT)
def test_steps_that_follow_no_gradient_of_the_model_do_not_count(name: str) -> None:
    """The surrogate of every evaluation is attacked with 20 steps, more than twice what a model is trained against."""
    for attacks, verdict in (({name: {"steps": 20}}, "not_measured"), ({"fgsm": {}, name: {"steps": 20}}, "misses")):
        measured = {"trained_against": ADVERSARIAL, "attacks": attacks, "threats": {"linf:0.1": {}}}
        assert ask("stronger_than_training", case(measured=measured)) == verdict


def test_the_attacks_whose_steps_do_not_count_are_those_that_need_no_gradient() -> None:
    members = {name: catalog.member("attacks", name) for name in catalog.names("attacks")}
    free = {name for name, each in members.items() if getattr(each, "gradient_free", False)}
    assert {name for name in free if "steps" in {field.name for field in fields(members[name])}} == set(
        FOLLOW_NO_GRADIENT
    )


def test_evidence_sets_each_attack_beside_the_one_trained_against() -> None:
    trained = {"method": "adversarial", "attack": {"settings": {"steps": 7}}}
    attacks = {
        "fgsm": {"loss": "ce"},
        "pgd": {"steps": 7, "restarts": 2, "loss": "margin"},
        "apgd": {"steps": 7, "loss": "ce"},
        "transfer": {"steps": 20},
    }
    found = beside_training(trained, attacks)
    assert found is not None
    assert found["trained"] == {"steps": 7, "restarts": 1, "loss": "ce"}
    assert {name: (one["stronger"], one["other_loss"]) for name, one in found["attacks"].items()} == {
        "fgsm": (False, False),
        "pgd": (True, True),
        "apgd": (False, False),
    }
    assert beside_training({"method": "huber", "attack": {"settings": {}}}, attacks) is None


@pytest.mark.parametrize(
    ("threat", "verdict"),
    [
        ("linf:0.1", "holds"),
        ("linf:0.2", "holds"),
        ("linf:0.05", "not_measured"),
        ("l2:0.1", "not_measured"),
        ("linf:0.1:[-1,1]", "not_measured"),
        ("linf:0.1:targeted:white-box", "not_measured"),
        ("linf:0.1:untargeted:transfer", "not_measured"),
        ("linf", "not_measured"),
        ("", "not_measured"),
        (7, "not_measured"),
    ],
)
def test_another_norm_goal_knowledge_or_smaller_radius_than_trained_against_is_no_evidence(
    threat: Any, verdict: str
) -> None:
    measured = {"trained_against": ADVERSARIAL, "attacks": {"pgd": {"steps": 40}}, "threats": {threat: {}}}
    assert ask("stronger_than_training", case(measured=measured)) == verdict


@pytest.mark.parametrize("bar", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("rule", ["at_least", "at_most"])
def test_a_bar_that_is_no_number_is_refused(rule: str, bar: float) -> None:
    with pytest.raises(UnfitInput):
        catalog.build("gate.rules", rule, {"estimate": "m", "value": bar})


@pytest.mark.parametrize(
    "rule",
    [
        {"rule": "no_worse_than", "estimate": "m", "margin": -0.1, "without_champion": "holds"},
        {"rule": "no_worse_than", "estimate": "m", "without_champion": "holds", "champion": False},
        {"rule": "at_least", "estimate": "", "value": 0.5},
        {"rule": "at_least", "estimate": "m", "value": 0.5, "threat": "linf"},
        {"rule": "at_least", "estimate": "m", "value": 0.5, "threat": "linf:0"},
        {"rule": "at_least", "estimate": "m", "value": 0.5, "threat": "linf:0.1:[0,x]"},
        {"rule": "at_least", "estimate": "m", "value": "much"},
        {"rule": "at_least", "estimate": "m", "value": 0.5, "severity": "maybe"},
        {"rule": "at_least", "estimate": "m"},
        {"rule": 3},
        {},
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_with_the_policy(rule: dict[str, Any]) -> None:
    with pytest.raises(UnfitInput):
        policy(rule)


@pytest.mark.parametrize(
    ("rule", "close"),
    [
        ({"rule": "at_leest", "estimate": "m", "value": 0.5}, "at_least"),
        ({"rule": "at_least", "estimate": "m", "valu": 0.5}, "value"),
    ],
)
def test_an_unknown_rule_or_setting_names_the_nearest_one(rule: dict[str, Any], close: str) -> None:
    with pytest.raises(UnknownName) as caught:
        policy(rule)
    assert caught.value.close == close
