"""Attempts on a hold-out: charged once each, in one order, and paid for, so that trying again wears no bar down."""

from __future__ import annotations

import math
import multiprocessing
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from promotion_cases import FLOOR, TARGET, Candidate, evidence_about, policy
from scipy.stats import binom, binomtest

from assay import attempts as attempts_module
from assay import canonical
from assay.attempts import attempts, charge, confidence_at, holdout_of, share_of_alpha
from assay.config.root import Target
from assay.errors import Refused, UnfitInput
from assay.estimate import paired_difference, proportion
from assay.evidence import Evidence
from assay.gate.decide import ask, conclude
from assay.gate.power import chance_of_passing, least_passing
from assay.gate.verdict import Case
from assay.ledger import FileLedger, Ledger
from assay.restate import restated
from assay.workspace import Workspace

ALPHA, BAR, RECORDS, TRIES, MODELS = 0.025, 0.8, 1000, 500, 2000
PLENTY = policy(attempts=TRIES, coarse_from=TRIES + 1)
HOLDOUT = "b" * 64


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return FileLedger(tmp_path / "ledger")


def measured(seed: int, **changes: Any) -> Evidence:
    return evidence_about("a" * 64, measured={"seed": seed}, **changes)


def number(ledger: Ledger, evidence: Evidence, target: Target) -> int:
    """Which attempt it is, charged now if it was none."""
    charged = charge(ledger, evidence, target)
    assert charged[-1] == evidence.id
    return len(charged)


def test_all_attempts_together_spend_alpha_and_no_more() -> None:
    """Reference: Euler's sum of inverse squares."""
    spent = math.fsum(share_of_alpha(number) for number in range(1, 100_001))
    assert spent <= 1
    assert spent == pytest.approx(1 - 6 / math.pi**2 / 100_000, abs=1e-9)
    assert 1 - confidence_at(0.95, 3) == pytest.approx(0.05 * 6 / (3 * math.pi) ** 2)
    with pytest.raises(UnfitInput):
        share_of_alpha(0)


def test_the_same_measurement_is_one_attempt_whenever_and_wherever_it_is_made(ledger: Ledger) -> None:
    first = measured(0)
    assert [number(ledger, measured(seed), TARGET) for seed in (0, 1, 2)] == [1, 2, 3]
    assert number(ledger, replace(first, run={"host": "elsewhere"}), TARGET) == 1
    assert number(ledger, measured(3), TARGET) == 4
    assert attempts(ledger, HOLDOUT, TARGET)[0] == first.id


def test_each_hold_out_and_each_target_has_a_budget_of_its_own(ledger: Ledger) -> None:
    other = measured(0, subjects={"model": "a" * 64, "holdout": "e" * 64})
    assert number(ledger, measured(0), TARGET) == number(ledger, other, TARGET) == 1
    assert number(ledger, measured(1), Target(model="digits", alias="next")) == 1
    assert number(ledger, measured(1), TARGET) == 2


def test_equal_records_are_one_hold_out_whatever_their_manifest_says() -> None:
    """Delivering the same records again, with another history, gives no new budget."""
    again = [
        replace(
            measured(0),
            subjects={"model": "a" * 64, "holdout": each * 64},
            measured={"seed": 0, "holdout_content": "f" * 64},
        )
        for each in "bc"
    ]
    assert {holdout_of(each) for each in again} == {"f" * 64}


@pytest.mark.parametrize("subjects", [{"model": "a" * 64}, {"holdout": "short"}, {"holdout": "../" + "a" * 61}])
def test_evidence_that_names_no_hold_out_cannot_be_charged(ledger: Ledger, subjects: dict[str, str]) -> None:
    with pytest.raises(UnfitInput, match="holdout"):
        charge(ledger, measured(0, subjects=subjects), TARGET)
    assert ledger.names() == []


def _charge_many(root: str, worker: int, told: Any) -> None:
    """40 measurements, of which every process makes the first 20 and each its own 20 others."""
    mine = [*range(20), *range(100 * (worker + 1), 100 * (worker + 1) + 20)]
    told.put([(seed, number(FileLedger(Path(root)), measured(seed, run={}), TARGET)) for seed in mine])


def test_four_processes_number_their_attempts_in_one_order(tmp_path: Path, ledger: Ledger) -> None:
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    workers = [
        context.Process(target=_charge_many, args=(str(tmp_path / "ledger"), number, told), daemon=True)
        for number in range(4)
    ]
    for worker in workers:
        worker.start()
    answers = [pair for _ in workers for pair in told.get(timeout=120)]
    for worker in workers:
        worker.join(timeout=60)
    numbers: dict[int, set[int]] = {}
    for seed, number in answers:
        numbers.setdefault(seed, set()).add(number)
    assert all(len(each) == 1 for each in numbers.values())
    assert sorted(number for each in numbers.values() for number in each) == list(range(1, 101))
    assert len(attempts(ledger, HOLDOUT, TARGET)) == 100


@pytest.mark.parametrize("change", [{"number": 9}, {"holdout": "c" * 64}, {"target": {"model": "x"}}, {"more": 1}])
def test_an_attempt_out_of_line_stops_everything(ledger: Ledger, change: dict[str, Any]) -> None:
    charge(ledger, measured(0), TARGET)
    name = ledger.names("attempts/")[0]
    planted = canonical.loads(ledger.get(name)) | {"number": 2, "evidence": "e" * 64} | change
    ledger.put(name.replace("00000001", "00000002"), canonical.dumps(planted))
    with pytest.raises(Refused, match="out of line"):
        charge(ledger, measured(1), TARGET)


def test_an_attempt_that_was_removed_is_noticed(ledger: Ledger, tmp_path: Path) -> None:
    for seed in range(3):
        charge(ledger, measured(seed), TARGET)
    (tmp_path / "ledger" / ledger.names("attempts/")[1]).unlink()
    with pytest.raises(Refused):
        attempts(ledger, HOLDOUT, TARGET)


@pytest.mark.parametrize("confidence", [0.9, 0.97, 0.9999])
def test_an_interval_is_made_again_from_its_integers(confidence: float) -> None:
    """Reference: scipy's exact interval."""
    exact = binomtest(930, 1000).proportion_ci(confidence, method="exact")
    again = restated(proportion(930, 1000), confidence)
    assert again is not None
    assert (again.low, again.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert restated(paired_difference(30, 10, 1000), confidence) == paired_difference(30, 10, 1000, confidence)


@pytest.mark.parametrize("change", [{"low": 0.92}, {"high": 0.94}, {"n": 999}, {"method": "x"}, {"counts": {}}])
def test_an_interval_that_is_not_what_its_integers_give_counts_at_its_own_confidence_or_not(change: Any) -> None:
    lying = replace(proportion(930, 1000), **change)
    assert restated(lying, 0.97) is None
    asked = Case(
        evidence=evidence_about("a" * 64, estimates={"clean_accuracy": lying}),
        policy=policy(),
        now=datetime.now(UTC),
        signed=True,
    )
    assert "confidence" in str(asked.estimate("clean_accuracy"))


def at(attempt: int, successes: int, n: int = RECORDS, rules: Any = PLENTY) -> Case:
    made = evidence_about("a" * 64, estimates={"clean_accuracy": proportion(successes, n)})
    return Case(evidence=made, policy=rules, now=datetime.now(UTC), signed=True, attempt=attempt)


def passes(attempt: int, successes: int) -> bool:
    return conclude(ask(at(attempt, successes))) == "promote"


@cache
def bars() -> np.ndarray[Any, Any]:
    """The fewest successes that the gate itself lets pass, for every attempt."""
    found = []
    for number in range(1, TRIES + 1):
        least = least_passing(BAR, RECORDS, 0.95, number)
        if number in (1, 2, 3, 10, 50, 200, TRIES):
            assert passes(number, least)
            assert not passes(number, least - 1)
        found.append(least)
    return np.array(found)


def allowed(models: int) -> float:
    """Wrong promotions that a correct gate exceeds at most once in 10**6 seeds."""
    return float(binom.ppf(1 - 1e-6, models, ALPHA))


def test_models_at_the_limit_pass_no_more_often_than_stated_in_one_attempt() -> None:
    drawn = np.random.default_rng(0).binomial(RECORDS, BAR, size=MODELS)
    assert 0 < int((drawn >= bars()[0]).sum()) <= allowed(MODELS)


def test_models_at_the_limit_pass_no_more_often_than_stated_in_500_attempts() -> None:
    """2,000 sequences of 500 models, each exactly at the bar: a wrong promotion anywhere in one counts."""
    drawn = np.random.default_rng(1).binomial(RECORDS, BAR, size=(MODELS, TRIES))
    wrong = int((drawn >= bars()).any(axis=1).sum())
    assert 0 < wrong <= allowed(MODELS)
    exact = 1 - np.prod([1 - chance_of_passing(BAR, BAR, RECORDS, 0.95, n) for n in range(1, TRIES + 1)])
    assert exact <= ALPHA


def test_a_gate_that_forgets_earlier_attempts_is_worn_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: each attempt treated as the first, or alpha not split. The test above notices either."""
    drawn = np.random.default_rng(1).binomial(RECORDS, BAR, size=(MODELS, TRIES))
    assert int((drawn >= bars()[0]).any(axis=1).sum()) > 0.9 * MODELS
    monkeypatch.setattr(attempts_module, "share_of_alpha", lambda number: 1.0)
    assert passes(TRIES, int(bars()[0]))


def fitted(told: int, seed: int) -> int:
    """Successes of the best model of somebody who guesses at random and is told the scores of so many attempts.

    Blum and Hardt's boosting: keep the guesses that scored above a half, and let them vote.
    """
    rng = np.random.default_rng(seed)
    guesses = rng.integers(0, 2, size=(told, RECORDS))
    right = guesses == rng.integers(0, 2, size=RECORDS)
    signs = np.where(right.mean(axis=1) > 0.5, 1, -1)
    votes = ((2 * guesses - 1) * signs[:, None]).sum(axis=0) + rng.uniform(-0.1, 0.1, RECORDS)
    truth = np.where(right[0], guesses[0], 1 - guesses[0])
    return int(((votes > 0) == truth).sum())


def test_who_fits_to_the_scores_told_does_not_pass_more_often_than_stated() -> None:
    """Scores are told up to attempt 4, and the vote is attempt 5; told 499 of them the same person would pass."""
    least = least_passing(0.5, RECORDS, 0.95, 5)
    wrong = sum(fitted(4, seed) >= least for seed in range(MODELS))
    assert wrong <= allowed(MODELS)
    assert sum(fitted(499, seed) >= least_passing(0.5, RECORDS, 0.95, 500) for seed in range(20)) == 20


def test_power_three_points_below_and_above_the_bar() -> None:
    """Reference: simulation beside the exact chances; below the bar practically never, above by n."""
    below, above = (chance_of_passing(BAR + points, BAR, 2500, 0.95) for points in (-0.03, 0.03))
    assert below < 1e-6
    assert above > 0.9
    drawn = np.random.default_rng(2).binomial(RECORDS, BAR + 0.03, size=20_000)
    share = (drawn >= least_passing(BAR, RECORDS, 0.95, 2)).mean()
    assert share == pytest.approx(chance_of_passing(BAR + 0.03, BAR, RECORDS, 0.95, 2), abs=0.02)


def test_inconclusive_says_how_many_records_settle_it_at_this_attempt() -> None:
    """Reference: with that many records, all at the measured share, the rule holds at this attempt."""
    for attempt in (1, 5):
        note = next(rule["note"] for rule in ask(at(attempt, 815)) if rule["rule"] == "at_least")
        n = int(note.split("n=")[1].split()[0])
        settled = next(rule for rule in ask(at(attempt, math.ceil(0.815 * n), n)) if rule["rule"] == "at_least")
        assert settled["verdict"] == "holds"
    assert least_passing(BAR, 3, 0.95, 10) == 4


def test_beyond_the_last_attempt_the_hold_out_is_exhausted() -> None:
    few = policy(attempts=3)
    assert conclude(ask(at(3, RECORDS, rules=few))) == "promote"
    answers = ask(at(4, RECORDS, rules=few))
    assert conclude(answers) == "inconclusive"
    said = {answer["rule"]: answer for answer in answers}
    assert "holdout_exhausted" in said["attempts"]["note"]
    assert said["at_least"]["verdict"] == "unclear"


@pytest.mark.parametrize(("successes", "decision"), [(990, "promote"), (840, "inconclusive"), (100, "inconclusive")])
def test_late_attempts_tell_only_whether_everything_measured_holds(successes: int, decision: str) -> None:
    """A reject and an unclear rule look the same, down to the bytes; nothing of the numbers is left."""
    late = ask(at(10, successes, rules=policy()))
    assert conclude(late) == decision
    told = canonical.dumps([answer for answer in late if answer["rule"] == "at_least"]).decode()
    assert "estimate" not in canonical.loads(told)[0]
    assert str(successes) not in told
    if decision != "promote":
        assert late == ask(at(10, 500, rules=policy()))


def test_the_attempt_is_charged_before_the_verdict_and_once(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stops the gate on seeing the verdict has paid; the next run of it has the same number."""
    candidate = Candidate(workspace, tmp_path / "a")
    monkeypatch.setattr("assay.gate.step.decide", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        candidate.gate()
    assert len(workspace.ledger.names("attempts/")) == 1
    assert workspace.ledger.names("decisions/") == []
    monkeypatch.undo()
    monkeypatch.setenv("ASSAY_HOME", str(workspace.home))
    first = candidate.gate()
    other = Candidate(workspace, tmp_path / "b", weights=b"other").gate()
    again = candidate.gate()
    assert first["decision_id"] == again["decision_id"]
    assert [answer["attempt"]["number"] for answer in (first, other, again)] == [1, 2, 1]
    assert other["attempt"]["earlier"] == [first["evidence_id"]]
    assert other["rules"][-1]["estimate"]["confidence"] == pytest.approx(confidence_at(0.95, 2))


def test_unsigned_evidence_costs_nothing(tmp_path: Path) -> None:
    from assay.gate.step import gate

    path = tmp_path / "evidence.dsse.json"
    evidence_about("a" * 64).write(path, [])
    answer = gate(path, policy(FLOOR), target=TARGET, decision=tmp_path / "decision.dsse.json")
    assert answer["decision"] == "inconclusive"
    assert Workspace.from_env().ledger.names("attempts/") == []
