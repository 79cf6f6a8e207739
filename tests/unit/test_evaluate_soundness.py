"""Each check of soundness by itself: what makes it miss, and that nothing else does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from assay.evaluate import soundness
from assay.evaluate.ladder import Rung, ladder
from assay.evaluate.measure import Plan
from assay.evaluate.outcomes import STANDS, BlockOutcome, Outcomes
from assay.evaluate.strength import RESCALED, SEARCH, TRANSFER
from assay.threat import ThreatModel

THREAT = ThreatModel(epsilon=0.1)
KEY, RECORDS, FEATURES = THREAT.key, 200, 64
PLAN = Plan(threats=(THREAT,), rungs=ladder({"fgsm": {}, "pgd": {"steps": 40, "restarts": 1}}))
Y = torch.arange(RECORDS) % 10
CURVE = (180, 150, 60, 10)

Change = Callable[[dict[str, int], np.ndarray], None]


@pytest.fixture(autouse=True)
def _known_model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The self test has its own tests; only that of this file runs it."""
    if "self_test" not in request.node.name:
        monkeypatch.setattr(soundness, "self_test", lambda *_: True)


class Idle:
    """An attack that does nothing."""

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        return x


def said(change: Change | None = None, plan: Plan = PLAN) -> set[str]:
    """The checks that miss on a measurement where all hold, but for a change."""
    tallies = {"records": RECORDS, "right": RECORDS, "truncated": 0}
    tallies |= {f"curve/{KEY}/{number}": stands for number, stands in enumerate(CURVE)}
    by = np.full(RECORDS, STANDS)
    by[:50] = 1
    if change is not None:
        change(tallies, by)
    outcomes = Outcomes((BlockOutcome(0, Y.numpy(), {KEY: by}, tallies),))
    found = soundness.verdicts(outcomes, Y, plan, FEATURES)
    assert set(found.values()) <= {"holds", "misses"}
    return {name for name, word in found.items() if word == "misses"}


def tally(name: str, value: int) -> Change:
    return lambda tallies, by: tallies.update({name: value})


def broken_by(rung: str, records: int) -> Change:
    def change(tallies: dict[str, int], by: np.ndarray) -> None:
        by[100 : 100 + records] = PLAN.names.index(rung) + 1

    return change


FIRES = {
    "finite_logits": tally("clean_not_finite", 1),
    "attacks_stay_inside": tally(f"outside/{KEY}", 1),
    "two_passes_agree": tally("passes_differ", 1),
    "zero_gradient_share": tally("zero_gradient", 11),
    "scale_invariance": broken_by(RESCALED, 5),
    "gradient_free_not_better": broken_by(SEARCH, 3),
    "transfer_not_better": broken_by(TRANSFER, 5),
    "accuracy_falls_with_epsilon": tally(f"curve/{KEY}/2", 155),
    "chance_at_whole_box": tally(f"curve/{KEY}/3", 40),
}
STILL_HOLDS = {
    "zero_gradient_share": tally("zero_gradient", 10),
    "scale_invariance": broken_by(RESCALED, 4),
    "gradient_free_not_better": broken_by(SEARCH, 1),
    "transfer_not_better": broken_by(TRANSFER, 4),
    "accuracy_falls_with_epsilon": tally(f"curve/{KEY}/2", 154),
    "chance_at_whole_box": tally(f"curve/{KEY}/3", 25),
}


def test_an_honest_measurement_misses_nothing() -> None:
    assert said() == set()


@pytest.mark.parametrize("name", list(FIRES))
def test_a_check_misses_on_its_own_fault_and_no_other_does(name: str) -> None:
    assert said(FIRES[name]) == {name}


@pytest.mark.parametrize("name", list(STILL_HOLDS))
def test_a_check_holds_at_the_edge_of_what_it_tolerates(name: str) -> None:
    assert said(STILL_HOLDS[name]) == set()


def test_logits_that_an_attack_made_infinite_count_as_clean_ones_do() -> None:
    assert said(tally(f"not_finite/{KEY}", 1)) == {"finite_logits"}


def test_an_attack_that_finds_nothing_on_the_known_model_fails_the_self_test() -> None:
    idle = Plan(threats=(THREAT,), rungs=(Rung("idle", Idle()),))
    tallies = {"records": RECORDS, "right": RECORDS}
    tallies |= {f"curve/{KEY}/{number}": stands for number, stands in enumerate(CURVE)}
    outcomes = Outcomes((BlockOutcome(0, Y.numpy(), {KEY: np.full(RECORDS, STANDS)}, tallies),))
    found = soundness.verdicts(outcomes, Y, idle, FEATURES)
    assert {name for name, word in found.items() if word == "misses"} == {"attack_self_test"}
