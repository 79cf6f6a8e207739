"""The representations: deterministic, seeded, and held out in fact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy, ks_2samp

from assay.config.filters import FilterConfig
from assay.errors import UnfitInput
from assay.filters import Labels
from assay.filters._proxy import Proxy
from assay.filters.examine import look
from assay.filters.features import ABSTAINS, Inputs, Spaces, folds_of, spaces, views
from assay.filters.scoring import members

GROUPS = [f"s{k % 3}" for k in range(90)]


def table(seed: int = 0, n: int = 90, d: int = 4) -> tuple[Inputs, Labels]:
    """Three separable classes of a table."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(n) % 3
    return (rng.standard_normal((n, d)) + 3 * np.eye(d)[labels]).astype(np.float32), labels


def measured(x: Inputs, y: Labels, groups: list[str] | None = None, **settings: object) -> Spaces:
    return spaces(x, y, groups or GROUPS, classes=3, **settings)  # type: ignore[arg-type]


def test_same_seed_same_bytes_and_another_seed_others() -> None:
    x, y = table()
    one, two, other = measured(x, y, seed=1), measured(x, y, seed=1), measured(x, y, seed=2)
    assert one.held_out is not None
    assert two.held_out is not None
    assert one.penultimate.records.tobytes() == two.penultimate.records.tobytes()
    assert one.held_out.records.tobytes() == two.held_out.records.tobytes()
    assert one.penultimate.records.tobytes() != other.penultimate.records.tobytes()


def test_views_of_images_end_in_texture_and_marks_which_know_no_label() -> None:
    """Stacks of few views take the last ones: the two that labels have no part in, to the bit."""
    x, y = np.random.default_rng(0).random((90, 1, 6, 6), dtype=np.float32), np.arange(90) % 3
    found, relabelled = (views(measured(x, labels)) for labels in (y, y[::-1].copy()))
    assert [view.records[:1].shape[1] for view in found] == [36, 64 + 8, 64, 8, 64]
    for one, other in zip(found[-2:], relabelled[-2:], strict=True):
        assert one.records[:].tobytes() == other.records[:].tobytes()
    assert found[2].records[:].tobytes() != relabelled[2].records[:].tobytes()
    assert [view.records[:1].shape[1] for view in views(measured(*table()))] == [4, 64]


def test_the_global_generator_and_the_thread_count_are_left_as_they_were() -> None:
    x, y = table()
    torch.manual_seed(7)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    measured(x, y, threads=threads + 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_what_is_said_of_a_source_does_not_depend_on_its_labels() -> None:
    """Held out in fact: relabelling a source changes no bit of what is said of it, but of what is said of others."""
    x, y = table()
    mine = np.array(GROUPS) == "s1"
    relabelled = np.where(mine, (y + 1) % 3, y)
    before, after = measured(x, y).held_out, measured(x, relabelled).held_out
    assert before is not None
    assert after is not None
    assert before.records[mine].tobytes() == after.records[mine].tobytes()
    assert (before.records[~mine] != after.records[~mine]).any()


@pytest.mark.slow
def test_what_is_said_of_trusted_records_does_not_depend_on_their_labels() -> None:
    x, y = table()
    trusted, labels = table(1, 30)
    before = measured(x, y, trusted=(trusted, labels))
    after = measured(x, y, trusted=(trusted, (labels + 1) % 3))
    assert before.held_out is not None
    assert after.held_out is not None
    assert before.held_out.trusted.tobytes() == after.held_out.trusted.tobytes()
    assert before.penultimate.trusted.tobytes() == after.penultimate.trusted.tobytes()
    assert before.held_out.records.tobytes() != after.held_out.records.tobytes()


def test_held_out_says_log_probabilities_and_mostly_the_truth() -> None:
    x, y = table()
    found = measured(x, y).held_out
    assert found is not None
    np.testing.assert_allclose(np.exp(found.records).sum(axis=1), 1, atol=1e-9)
    assert (found.records.argmax(axis=1) == y).mean() > 0.85


def test_one_source_without_trusted_records_cannot_be_held_out() -> None:
    x, y = table()
    assert measured(x, y, ["only"] * 90).held_out is None


def test_one_source_is_judged_by_a_proxy_of_the_trusted_records() -> None:
    x, y = table()
    found = measured(x, y, ["only"] * 90, trusted=table(1, 60)).held_out
    assert found is not None
    assert (found.records.argmax(axis=1) == y).mean() > 0.8


def test_records_of_one_source_and_trusted_ones_are_measured_on_equal_terms() -> None:
    """Classes that overlap, few trusted records: what a proxy of many says of its own kind is surer than one of few.

    The chance that equal distributions fail this is 1e-9.
    """
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, 2700)
    x = (rng.normal(size=(2700, 30)) + 0.35 * y[:, None]).astype(np.float32)
    found = measured(x[:2400], y[:2400], ["only"] * 2400, trusted=(x[2400:], y[2400:]))
    assert found.held_out is not None
    given = zip((found.held_out.records, found.held_out.trusted), (y[:2400], y[2400:]), strict=True)
    assert ks_2samp(*(said[np.arange(len(said)), own] for said, own in given)).pvalue > 1e-9
    spread = [part.std(axis=1) for part in (found.penultimate.records, found.penultimate.trusted)]
    assert ks_2samp(*spread).pvalue > 1e-9


def test_a_class_that_the_other_sources_lack_is_not_doubted() -> None:
    """A proxy that never saw a class would call every record of it wrong, and a minority would be deleted."""
    x, y = table()
    groups = ["alone" if label == 2 else f"s{row % 2}" for row, label in enumerate(y)]
    found = measured(x, y, groups).held_out
    assert found is not None
    np.testing.assert_array_equal(found.records[y == 2], np.where(np.arange(3) == 2, 0.0, ABSTAINS)[None].repeat(30, 0))


def test_a_proxy_that_says_the_same_of_all_records_doubts_none() -> None:
    """Constant features: what it says is the share of the classes among the others, which differ from fold to fold."""
    _, y = table()
    found = measured(np.ones((90, 4), np.float32), y).held_out
    assert found is not None
    assert (found.records.argmax(axis=1) == y).all()


def test_folds_keep_sources_whole_and_even() -> None:
    groups = ["a"] * 50 + ["b"] * 30 + ["c"] * 20 + ["d"] * 10 + ["e"] * 5
    fold = folds_of(groups, 3)
    for name in "abcde":
        assert len(set(fold[np.array(groups) == name].tolist())) == 1
    assert sorted(np.bincount(fold).tolist()) == [30, 35, 50]


def test_constant_columns_and_absurd_numbers_leave_activations_finite() -> None:
    x, y = table()
    x[:, 0], x[5, 1] = 3.0, 1e30
    found = measured(x, y)
    assert np.isfinite(found.penultimate.records).all()
    assert found.held_out is not None
    assert np.isfinite(found.held_out.records).all()


@pytest.mark.slow
def test_images_of_any_side_are_measured() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 3, 2), (3, 8, 8), (1, 28, 28)):
        x, y = rng.random((12, *shape), dtype=np.float32), np.arange(12) % 2
        found = spaces(x, y, ["a", "b"] * 6, classes=2, epochs=1)
        assert found.penultimate.records.shape == (12, 64)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x": np.full((90, 4), np.nan, np.float32)}, "NaN"),
        ({"x": np.zeros((90,), np.float32)}, "inputs"),
        ({"y": np.zeros(89, np.int64)}, "inputs"),
        ({"y": np.zeros(90, np.int64)}, "one class"),
        ({"groups": ["a"]}, "inputs"),
        ({"trusted": (np.zeros((5, 3), np.float32), np.zeros(5, np.int64))}, "trusted"),
        ({"trusted": (np.full((5, 4), np.inf, np.float32), np.zeros(5, np.int64))}, "trusted"),
    ],
)
def test_unfit_input_is_refused(change: dict[str, object], match: str) -> None:
    x, y = table()
    given = {"x": x, "y": y} | change
    with pytest.raises(UnfitInput, match=match):
        measured(**given)  # type: ignore[arg-type]


def test_overlays_give_the_entropy_of_the_answer_for_the_sum() -> None:
    """Reference: the softmax and entropy of scipy on the proxy's logits."""
    proxy = Proxy((4,), 3).eval()
    x, overlays = torch.randn(7, 4), 6 * torch.randn(2, 4)
    logits = [proxy((x + overlay).clamp(-10, 10)).detach().numpy() for overlay in overlays]
    expected = np.stack([entropy(softmax(said, axis=1), axis=1) for said in logits], axis=1)
    np.testing.assert_allclose(proxy.overlaid(x, overlays), expected, rtol=1e-5, atol=1e-7)
    assert proxy.overlaid(x[:0], overlays).shape == (0, 2)


@pytest.mark.slow
def test_overlays_are_measured_where_they_are_asked_for_and_change_nothing_else() -> None:
    x, y = table()
    without, found = measured(x, y), measured(x, y, overlays=5, trusted=(x[:9], y[:9]))
    assert without.superimposed is None
    assert found.superimposed is not None
    assert found.superimposed.records.shape == (90, 5)
    assert found.superimposed.trusted.shape == (9, 5)
    assert without.penultimate.records.tobytes() == found.penultimate.records.tobytes()
    assert (found.superimposed.records >= 0).all()
    assert (found.superimposed.records <= np.log(3) + 1e-9).all()


def test_a_trigger_that_decides_under_every_overlay_is_answered_with_low_entropy() -> None:
    """Closed form: a proxy that reads one column alone where it is large answers the same whatever is added."""
    proxy = Proxy((4,), 3).eval()
    with torch.no_grad():
        for layer in (proxy.body[0], proxy.penultimate, proxy.classes):
            layer.weight.zero_()
            layer.bias.zero_()
        proxy.body[0].weight[0, 3] = proxy.penultimate.weight[0, 0] = 1.0
        proxy.classes.weight[2, 0] = 5.0
    x = torch.zeros(6, 4)
    x[:2, 3] = 8.0
    found = proxy.overlaid(x, torch.randn(16, 4).clamp(-2, 0.1)).mean(axis=1)
    assert found[:2].max() < 1e-6
    assert found[2:].min() > 0.9


def test_the_detector_of_overlays_is_asked_by_name_and_scores_the_records() -> None:
    x, y = table()
    built = members({"strip": {}})
    found, judged = look(x, y, GROUPS, 3, None, FilterConfig(permutations=199), built)
    assert found.superimposed is not None
    assert found.superimposed.records.shape == (90, 16)
    np.testing.assert_array_equal(judged.scores["strip"].records, -found.superimposed.records.mean(axis=1))
