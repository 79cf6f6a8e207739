"""Distortion until the answer changes: against the exact distance of every record of a linear model, box included."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from aspect_cases import scene
from evaluate_cases import trained

from assay.attacks.fab import to_plane
from assay.attacks.geometry import size
from assay.constraints import Constraints
from assay.errors import UnfitInput
from assay.evaluate.aspects import distortion
from assay.evaluate.aspects.distortion import Distortion
from assay.evaluate.aspects.scene import Scene
from assay.evaluate.ladder import ladder
from assay.restate import restated
from assay.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("one_thread")

THREATS = {
    "linf": (ThreatModel(epsilon=0.1), {"pgd": {"steps": 30, "loss": "margin"}}, 1.05),
    "l2": (ThreatModel(norm="l2", epsilon=0.5), {"pgd": {"steps": 30, "loss": "margin"}}, 1.08),
    "l1": (ThreatModel(norm="l1", epsilon=2.0), {"apgd": {"steps": 40, "loss": "margin"}}, 1.15),
    "l0": (ThreatModel(norm="l0", epsilon=2), {"sparse_pgd": {"steps": 60, "restarts": 1}}, 1.0),
}


@cache
def plane() -> Any:
    """The scene of a linear model, and its weights (10, 64) and answers (N, 10) in float64."""
    seen = scene(trained("linear"), records=60)
    x = seen.x.double()
    zero, eye = torch.zeros(1, 1, 8, 8), torch.eye(64).view(64, 1, 8, 8)
    with torch.no_grad():
        weight = (seen.model(eye) - seen.model(zero)).double().T
        return seen, x.flatten(1), weight, seen.model(seen.x).double()


@cache
def exact(norm: str) -> np.ndarray:
    """(N,) the least over the other classes of the step to the plane where both logits are equal, inside the box."""
    seen, x, weight, logits = plane()
    best = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for other in range(10):
        slope = weight[other] - weight[seen.y]
        gap = (logits[:, other] - logits.gather(1, seen.y[:, None]).squeeze(1)).clamp_max(0)
        if norm == "l0":
            room = torch.where(slope > 0, 1 - x, x)
            gains = (slope.abs() * room).sort(dim=1, descending=True).values.cumsum(1)
            far = (gains < -gap[:, None]).sum(1).double() + 1
            far = torch.where(far > 64, torch.inf, far)
        else:
            step = to_plane(norm, x, slope, gap, (0.0, 1.0))
            far = size(ThreatModel(norm=norm, epsilon=0.5), step)
            far = torch.where((slope * step).sum(1) >= -gap - 1e-9, far, torch.inf)
        best = torch.where(seen.y == other, best, torch.minimum(best, far))
    wrong = logits.argmax(1) != seen.y
    return torch.where(wrong, 0.0, best).numpy()


def asked(norm: str, **changes: Any) -> tuple[Scene, Distortion]:
    threat, attacks, _ = THREATS[norm]
    seen = plane()[0]
    made = replace(seen, plan=replace(seen.plan, threats=(threat,), rungs=ladder(attacks)))
    return made, Distortion(**changes)


@pytest.mark.parametrize("norm", ["l0", *(pytest.param(n, marks=pytest.mark.slow) for n in ("linf", "l2", "l1"))])
def test_sizes_are_never_below_the_exact_distance_and_rarely_far_above(norm: str) -> None:
    seen, aspect = asked(norm, reach=4.0, halvings=3)
    ball = aspect._farthest(seen, THREATS[norm][0])
    sizes, least = aspect._sizes(seen, ball), exact(norm)
    within = least < ball.epsilon * 0.99
    assert within.sum() > 40
    assert (sizes >= least * (1 - 1e-4) - 1e-6).all()
    assert (sizes[least == 0] == 0).all()
    assert np.isinf(sizes[least > ball.epsilon * 1.0001]).all()
    ratio = sizes[within & (least > 0)] / least[within & (least > 0)]
    assert np.median(ratio) <= THREATS[norm][2]
    assert (ratio < 1.5).mean() > 0.95


@pytest.mark.slow
def test_estimates_are_those_of_the_exact_distances() -> None:
    seen, aspect = asked("linf", reach=4.0, halvings=3)
    found = aspect(seen).estimates
    assert set(found) == {"median_distortion/linf:0.4", "mean_distortion/linf:0.4"}
    least = np.minimum(exact("linf"), 0.4)
    median, mean = found["median_distortion/linf:0.4"], found["mean_distortion/linf:0.4"]
    assert median.low < np.median(least) < median.high
    assert median.value == pytest.approx(np.median(least), rel=0.06, abs=0.002)
    assert mean.value == pytest.approx(least.mean(), rel=0.06, abs=0.002)
    for each in found.values():
        again = restated(each, 0.99)
        assert again is not None
        assert again.low <= each.low <= each.value <= each.high <= again.high


def test_records_that_nothing_moves_count_as_the_radius_and_are_counted() -> None:
    seen, aspect = asked("linf", reach=1.0, halvings=0)

    class Says(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(seen.y, 10).float()[: len(x)] + 0 * x.flatten(1)[:, :1]

    stubborn = replace(seen, model=Says().eval())
    answer = aspect(stubborn)
    assert answer.facts == {"never_moved": {"linf:0.1": 60}}
    assert all(each.value == 0.1 for each in answer.estimates.values())
    assert aspect(replace(seen, y=(seen.y + 1) % 10)).estimates["median_distortion/linf:0.1"].value == 0.0


MUTANTS = {
    "does not narrow": ("_narrowed", lambda scene, ball, x, y, found: found),
    "never halves": ("_next", lambda least, low, high, ball: (torch.full_like(low, ball.epsilon), high)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MUTANTS))
def test_a_broken_search_finds_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, aspect = asked("linf", halvings=2, limit=40)
    ball = aspect._farthest(seen, THREATS["linf"][0])
    least = np.minimum(exact("linf")[:40], ball.epsilon)
    whole = np.minimum(aspect._sizes(seen, ball), ball.epsilon).mean() / least.mean()
    monkeypatch.setattr(distortion, *MUTANTS[name])
    broken = np.minimum(aspect._sizes(seen, ball), ball.epsilon).mean() / least.mean()
    assert whole < 1.1 < broken


def test_a_reach_below_the_threat_is_refused() -> None:
    for changes in ({"reach": 0.5}, {"reach": float("inf")}, {"halvings": -1}, {"limit": -1}):
        with pytest.raises(UnfitInput, match="distortion"):
            Distortion(**changes)


def test_a_row_that_has_to_keep_constraints_is_not_moved_back_to_where_none_holds() -> None:
    """Half way between two whole numbers is no whole number."""
    limits = Constraints(key="tabular-0", columns=("a", "b"), down=(None, None), up=(None, None), integer=(True, True))
    ball = ThreatModel(epsilon=1.0, bounds=(0.0, 9.0), constraints=limits)
    x, y = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    assert torch.equal(distortion._narrowed(plane()[0], ball, x, y, x + 1), x + 1)
