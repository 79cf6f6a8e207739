"""The parts of the attacks against their formulas: losses, checkpoints, the nearest point of a plane in a box."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from assay.attacks.apgd import checkpoints
from assay.attacks.fab import to_plane
from assay.attacks.objective import aimed, dlr, log_odds, margin, probability_margin
from assay.evaluate.selftest import worst_loss
from assay.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("one_thread")


def test_log_odds_order_examples_as_cross_entropy_does():
    logits = torch.randn(500, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(500) % 7
    expected = functional.cross_entropy(logits, y, reduction="none")
    torch.testing.assert_close(functional.softplus(log_odds(logits, y)), expected, rtol=1e-12, atol=1e-12)


def test_checkpoints_are_those_of_the_paper():
    """Section 3.1: p_0 = 0, p_1 = .22, p_(j+1) = p_j + max(p_j - p_(j-1) - .03, .06), times the steps, rounded up."""
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == [1]


def test_the_losses_are_their_formulas():
    logits, y = torch.tensor([[3.0, 1.0, 0.5, -1.0], [2.0, 4.0, 1.0, 1.5]]), torch.tensor([0, 0])
    assert margin(logits, y).tolist() == [-2.0, 2.0]
    assert dlr(logits, y).tolist() == pytest.approx([-(3 - 1) / (3 - 0.5), (4 - 2) / (4 - 1.5)])
    p = logits.softmax(1)
    assert probability_margin(logits, y).tolist() == pytest.approx([float(p[0, 1] - p[0, 0]), float(p[1, 1] - p[1, 0])])
    target = torch.tensor([2, 3])
    expected = [-(3 - 0.5) / (3 - (0.5 - 1.0) / 2), -(2 - 1.5) / (4 - (1.5 + 1.0) / 2)]
    assert aimed("dlr", logits, y, target).tolist() == pytest.approx(expected)
    assert dlr(5 * logits + 2, y).tolist() == pytest.approx(dlr(logits, y).tolist())
    for classes in (2, 3):  # no third or fourth logit: what stands in still points the same way
        few = logits[:, :classes]
        assert torch.isfinite(aimed("dlr", few, y, torch.ones_like(y))).all()
        assert torch.equal(dlr(few, y).sign(), margin(few, y).sign())


def test_logits_that_tie_at_the_top_leave_the_ratio_finite():
    logits, y = torch.zeros(1, 5), torch.tensor([0])
    for loss in (dlr(logits, y), aimed("dlr", logits, y, y + 1), probability_margin(logits, y)):
        assert torch.isfinite(loss).all()


@settings(max_examples=50, deadline=None)
@given(norm=st.sampled_from(["linf", "l2", "l1"]), seed=st.integers(0, 2**31), share=st.floats(0.01, 1.5))
def test_the_nearest_point_of_a_plane_in_a_box_is_that_of_a_convex_solver(norm, seed, share):
    """Reference: the least epsilon whose worst case (see test_evaluate_exact) closes the gap, by bisection."""
    draw = np.random.default_rng(seed)
    weight, x = draw.standard_normal(7), np.clip(draw.uniform(-0.3, 1.3, (1, 7)), 0, 1)
    weight[draw.random(7) < 0.2] = 0.0
    farthest = worst_loss(weight, x, np.array([1.0]), ThreatModel(norm="linf", epsilon=1.0))[0]
    gap = share * farthest
    step = to_plane(norm, torch.tensor(x), torch.tensor(weight)[None], torch.tensor([gap]), (0.0, 1.0)).numpy()
    assert (x + step).min() >= -1e-12
    assert (x + step).max() <= 1 + 1e-12
    if share > 1:
        assert -(step @ weight)[0] == pytest.approx(farthest)
        return
    assert -(step @ weight)[0] == pytest.approx(gap, abs=1e-9)
    low, high = 1e-9, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        threat = ThreatModel(norm=norm, epsilon=middle, bounds=(0.0, 1.0)) if norm != "linf" or middle <= 1 else None
        enough = threat is None or worst_loss(weight, x, np.array([1.0]), threat)[0] >= gap
        low, high = (low, middle) if enough else (middle, high)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    assert np.linalg.norm(step[0], ord=order) == pytest.approx(high, rel=1e-6, abs=1e-8)
