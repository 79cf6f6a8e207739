"""Blocks, the ladder, shards, probes and estimates of one evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from evaluate_cases import THREATS, Around, digits, plan, trained
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from assay.errors import UnfitInput, UnknownName
from assay.estimate import paired_difference, proportion
from assay.evaluate import summary
from assay.evaluate.blocks import block_count, block_rows
from assay.evaluate.ladder import Rung, climb, ladder, right, within
from assay.evaluate.measure import Plan, measure
from assay.evaluate.outcomes import STANDS, WRONG, Outcomes, merge, outcomes_bytes
from assay.evaluate.probes import read_triggers
from assay.threat import ThreatModel

THREAT = ThreatModel(epsilon=0.1)
PATCH = {"name": "patch", "kind": "patch", "row": 6, "column": 6, "size": 2, "value": 1.0, "target": 7}


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Adds a constant; remembers how many records it was given."""

    by: float
    seen: list[int]
    restarts: int = 1

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        self.seen.append(len(x))
        return x + self.by


class Threshold(nn.Module):
    """Class 1 where the one feature is above one half."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - x, x - 0.5], 1)


@given(records=st.integers(1, 3000))
def test_blocks_hold_every_record_once(records: int) -> None:
    rows = [row for index in range(block_count(records)) for row in range(records)[block_rows(index, records)]]
    assert rows == list(range(records))


def climbed(x: Sequence[float], rungs: Sequence[Rung]) -> tuple[list[int], int]:
    values = torch.tensor(x)[:, None]
    broken = climb(Threshold(), values, torch.zeros(len(x), dtype=torch.int64), THREAT, rungs, seed=0, block=0)
    return broken.by.tolist(), broken.outside


def test_a_record_leaves_the_batch_once_it_is_broken() -> None:
    first, second = Shift(by=0.05, seen=[]), Shift(by=0.1, seen=[], restarts=2)
    by, outside = climbed([0.1, 0.42, 0.47, 0.49, 0.8], [Rung("a", first), Rung("b", second, 2)])
    assert by == [STANDS, 2, 1, 1, WRONG]
    assert (first.seen, second.seen) == ([4], [2, 1])
    assert outside == 0


def test_nothing_is_attacked_when_nothing_stands() -> None:
    shift = Shift(by=0.05, seen=[])
    assert climbed([0.8, 0.9], [Rung("a", shift)]) == ([WRONG, WRONG], 0)
    assert shift.seen == []


def test_a_point_outside_the_ball_or_the_box_breaks_nothing_and_is_counted() -> None:
    assert climbed([0.2, 0.45], [Rung("far", Shift(by=0.4, seen=[]))]) == ([STANDS, STANDS], 2)
    assert climbed([0.45], [Rung("nan", Shift(by=torch.nan, seen=[]))]) == ([STANDS], 1)


@pytest.mark.parametrize(
    ("norm", "delta", "inside"),
    [
        ("linf", [0.1, -0.1], True),
        ("linf", [0.101, 0.0], False),
        ("l2", [0.06, 0.08], True),
        ("l2", [0.1, 0.1], False),
        ("l1", [0.06, 0.04], True),
        ("l1", [0.06, 0.08], False),
    ],
)
def test_within_is_the_ball_of_the_norm(norm: str, delta: list[float], inside: bool) -> None:
    threat = ThreatModel(norm=norm, epsilon=0.1)  # type: ignore[arg-type]
    x = torch.full((1, 2), 0.5)
    assert within(threat, x, x + torch.tensor([delta])).tolist() == [inside]


def test_within_ends_at_the_box() -> None:
    x = torch.tensor([[0.95]])
    assert within(THREAT, x, torch.tensor([[1.0]])).tolist() == [True]
    assert within(THREAT, x, torch.tensor([[1.01]])).tolist() == [False]


@pytest.mark.parametrize(
    ("logits", "correct"),
    [
        ([2.0, 1.0], True),
        ([1.0, 2.0], False),
        ([1.0, 1.0], False),
        ([torch.nan, torch.nan], False),
        ([2.0, torch.nan], False),
        ([torch.inf, 1.0], False),
        ([1.0, -torch.inf], False),
    ],
    ids=str,
)
def test_right_is_the_greatest_logit_alone_and_finite(logits: list[float], correct: bool) -> None:
    model = Around(nn.Identity(), lambda _, x: torch.tensor([logits]).expand(len(x), 2))
    assert right(model, torch.zeros(1, 3), torch.tensor([0])).tolist() == [correct]


def test_the_ladder_goes_from_cheap_to_dear_one_restart_at_a_time() -> None:
    rungs = ladder({"pgd": {"steps": 40, "restarts": 5}, "fgsm": {}})
    assert [(rung.name, rung.restarts) for rung in rungs] == [("fgsm", 1), ("pgd", 5)]
    assert rungs[1].attack.restarts == 1  # type: ignore[attr-defined]
    with pytest.raises(UnknownName):
        ladder({"pdg": {}})


@pytest.fixture(scope="module")
def whole() -> tuple[nn.Module, torch.Tensor, torch.Tensor, Plan, Outcomes]:
    """540 records, three blocks, one threat, a trigger."""
    x, y = (part[:540] for part in digits())
    what = replace(
        plan((THREAT,), triggers=read_triggers([PATCH])),
        rungs=ladder({"fgsm": {}, "pgd": {"steps": 10, "restarts": 2}}),
    )
    return trained(), x, y, what, measure(trained(), x, y, what)


def test_one_machine_and_eight_shards_find_the_same(
    whole: tuple[nn.Module, torch.Tensor, torch.Tensor, Plan, Outcomes],
) -> None:
    model, x, y, what, together = whole
    assert len(together.blocks) == 3
    shards = [measure(model, x, y, what, blocks=range(shard, 3, 8)) for shard in range(8)]
    merged = merge(reversed(shards), 3)
    assert summary.estimates(merged, what, 0.95) == summary.estimates(together, what, 0.95)
    assert merged.tallies == together.tallies
    ids = [f"s/b:{row}" for row in range(540)]
    files = [outcomes_bytes(ids, y.numpy(), each, what.names) for each in (merged, together)]
    assert files[0] == files[1]


def test_a_block_that_is_missing_or_done_twice_is_no_evaluation(
    whole: tuple[nn.Module, torch.Tensor, torch.Tensor, Plan, Outcomes],
) -> None:
    *_, together = whole
    parts = [Outcomes((block,)) for block in together.blocks]
    for given_parts in (parts[:2], [*parts, parts[0]], []):
        with pytest.raises(UnfitInput, match="shards"):
            merge(given_parts, 3)


def test_another_seed_is_another_draw_and_the_same_seed_the_same(
    whole: tuple[nn.Module, torch.Tensor, torch.Tensor, Plan, Outcomes],
) -> None:
    model, x, y, _, _ = whole
    rows, labels = x[:64], y[:64]
    draws = [climb(model, rows, labels, THREAT, plan().rungs, seed=seed, block=0).x_adv for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_estimates_are_the_counts_of_the_records(
    whole: tuple[nn.Module, torch.Tensor, torch.Tensor, Plan, Outcomes],
) -> None:
    model, x, y, what, found = whole
    made = summary.estimates(found, what, 0.9)
    by = found.by[THREAT.key]
    assert made["clean_accuracy"] == proportion(int((model(x).argmax(1) == y).sum()), 540, 0.9)
    assert made["robust_accuracy/linf:0.1"] == proportion(int((by == STANDS).sum()), 540, 0.9)
    steps = [made[name].value for name in ("clean_accuracy", "robust_accuracy/linf:0.1/fgsm")]
    steps += [made["robust_accuracy/linf:0.1/pgd"].value, made["robust_accuracy/linf:0.1"].value]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] > steps[1] > steps[3]
    rows = summary.per_class(found, y.numpy(), [str(k) for k in range(10)], what, 0.9)
    assert sum(count for _, count, _ in rows) == 540
    assert sum(shares[1].counts["successes"] for _, _, shares in rows) == int((by == STANDS).sum())


def backdoored(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Class 7 where the patch is, whatever the rest."""
    stamped = (x[:, :, 6:, 6:].amin((1, 2, 3)) >= 1)[:, None]
    return torch.where(stamped, 9.0 * torch.eye(10)[7], model(x))


def test_backdoor_success_counts_stamped_records_of_other_classes(
    whole: tuple[nn.Module, torch.Tensor, torch.Tensor, Plan, Outcomes],
) -> None:
    model, x, y, what, found = whole
    stamped = x[y != 7].clone()
    stamped[:, :, 6:8, 6:8] = 1.0
    expected = proportion(int((model(stamped).argmax(1) == 7).sum()), len(stamped))
    assert summary.estimates(found, what, 0.95)["backdoor_success"] == expected
    planted = Around(model, backdoored)
    tallies = what.triggers[0].tally(planted, x, y)
    assert tallies == {"probe/patch/trials": len(stamped), "probe/patch/hits": len(stamped)}
    silent = Around(model, lambda inner, at: inner(at) * torch.nan)
    assert what.triggers[0].tally(silent, x, y)["probe/patch/hits"] == len(stamped)


def test_several_triggers_have_an_estimate_each() -> None:
    both = [PATCH, {"name": "stripe", "kind": "stripe", "period": 4, "target": 0}]
    x, y = (part[:40] for part in digits())
    what = plan((THREAT,), triggers=read_triggers(both))
    made = summary.estimates(measure(trained(), x, y, what), what, 0.95)
    assert {name for name in made if name.startswith("backdoor")} == {
        "backdoor_success/patch",
        "backdoor_success/stripe",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "path"},
        {"kind": None},
        {"colour": 1},
        {"target": "7"},
        {"target": True},
        {"row": "six"},
        {"name": ""},
        {"name": "a/b"},
    ],
    ids=str,
)
def test_a_trigger_of_another_shape_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UnfitInput):
        read_triggers([PATCH | change])


@pytest.mark.parametrize("change", [{"target": 10}, {"target": -1}, {"row": 7}, {"size": 0}, {"value": 2.0}], ids=str)
def test_a_trigger_that_does_not_fit_the_model_is_refused(change: dict[str, object]) -> None:
    trigger = read_triggers([PATCH | change])[0]
    with pytest.raises(UnfitInput):
        trigger.require_fit((1, 8, 8), (0.0, 1.0), 10)


def test_a_trigger_name_counts_once() -> None:
    with pytest.raises(UnfitInput, match="twice"):
        read_triggers([PATCH, PATCH])


def test_differences_to_a_champion_pair_the_records() -> None:
    x, y = (part[:200] for part in digits())
    what = plan(THREATS)
    first, second = (measure(model, x, y, what, checks=False) for model in (trained("mlp"), trained("linear")))
    made = summary.against_champion(first, second, what, 0.95)
    for name, ours, theirs in (
        ("clean_accuracy_minus_champion", first.correct, second.correct),
        ("robust_accuracy_minus_champion/l2:0.5", first.by["l2:0.5"] == STANDS, second.by["l2:0.5"] == STANDS),
    ):
        only = [int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))]
        assert made[name] == paired_difference(*only, 200)


def test_the_worst_examples_are_wrong_and_inside_the_ball(
    whole: tuple[nn.Module, torch.Tensor, torch.Tensor, Plan, Outcomes],
) -> None:
    model, x, y, _, found = whole
    worst = found.worst(THREAT.key, 6)
    assert [example.share for example in worst] == sorted((example.share for example in worst), reverse=True)
    for example in worst:
        assert np.array_equal(example.x, x[example.row].numpy())
        assert example.label == int(y[example.row]) != example.predicted
        assert np.abs(example.x_adv - example.x).max() <= 0.1 + 1e-6
        assert int(model(torch.tensor(example.x_adv)[None]).argmax()) == example.predicted
