"""Conformal sets hold what they promise; feature squeezing is measured as the detector that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aspect_cases import SPEC, held, scene
from evaluate_cases import trained
from scipy.special import softmax

from assay import catalog
from assay.errors import UnfitInput
from assay.evaluate.aspects.conformal import Conformal, cut
from assay.evaluate.aspects.disagreement import Disagreement, disagreement
from assay.evaluate.aspects.squeezing import Squeezing, squeezed
from assay.models.assemble import assemble
from assay.models.folder import save_model
from assay.models.spec import Architecture

TRUSTED = {"trusted": held(180, 360, "trusted")}


def test_of_new_records_at_least_the_promised_share_lies_above_the_cut_whatever_the_model() -> None:
    """Exact: of 51 exchangeable records each is as likely the new one, and floor(51 * 0.1) = 5 ranks fall below.

    Statistical: 3,000 splits of a model that knows nothing; a correct build fails at most once in 10**6 seeds.
    """
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(3000):
        logits, y = rng.normal(0, 2, (51, 4)), rng.integers(0, 4, 51)
        least = cut(logits[:50], y[:50], 0.9)
        covered.append(softmax(logits[50])[y[50]] >= least)
    spread = np.sqrt(46 / 51 * 5 / 51 / 3000)
    assert abs(np.mean(covered) - 46 / 51) < 5 * spread


def test_too_few_records_for_the_coverage_give_every_class() -> None:
    assert cut(np.zeros((8, 2)), np.zeros(8, np.int64), 0.9) == 0.0
    assert cut(np.full((50, 2), np.nan), np.zeros(50, np.int64), 0.9) == 0.0


def test_sets_of_digits_hold_the_true_class_and_an_attack_empties_them_of_it() -> None:
    seen = scene(trained("mlp"), sets=TRUSTED)
    found = Conformal(fit_on="trusted", coverage=0.9)(seen).estimates
    assert found["conformal_coverage"].high >= 0.9
    assert 0.5 < found["conformal_set_size"].value < 2
    assert found["conformal_coverage/linf:0.1"].high < found["conformal_coverage"].low
    with pytest.raises(UnfitInput, match="hold-out"):
        Conformal(fit_on="same")(scene(trained("mlp"), sets={"same": held(0, 50)}))


def test_a_squeezed_copy_has_the_depth_and_the_medians_it_says() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (3, 2, 5, 5)).astype(np.float32)
    shallow, smooth = squeezed(x, (2,), 3, (-1.0, 1.0))
    assert np.allclose(np.unique(shallow), [-1, -1 / 3, 1 / 3, 1])
    assert np.abs(shallow - x).max() <= 1 / 3 + 1e-6
    assert smooth[1, 1, 2, 3] == np.median(x[1, 1, 1:4, 2:5])
    assert len(squeezed(x.reshape(3, 50), (2,), 3, (-1.0, 1.0))) == 1, "a table has no windows"


def test_squeezing_notices_attacks_more_often_than_it_cries_wolf() -> None:
    seen = scene(trained("mlp"), sets=TRUSTED)
    said = Squeezing(fit_on="trusted")(seen)
    found = said.estimates
    assert found["squeezing_false_alarms"].low <= 0.1, "the threshold rests on 180 records itself"
    for threat in seen.plan.threats:
        assert found[f"squeezing_recall/{threat.key}"].n > 10
        assert found[f"squeezing_auroc/{threat.key}"].value > 0.5
    assert 0 < said.facts["threshold"] < 2


@pytest.mark.parametrize("given", [{"bits": [0]}, {"bits": [], "window": 1}, {"false_alarm_rate": 1.0}], ids=str)
def test_settings_that_detect_nothing_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UnfitInput, match="squeezing"):
        catalog.build("evaluate.aspects", "squeezing", {"fit_on": "trusted", **given})


def test_disagreement_is_the_mutual_information_of_answer_and_model() -> None:
    """Closed forms: none between equal models, log M between M that are sure of different classes; and by its sum."""
    rng = np.random.default_rng(0)
    logits = [rng.normal(0, 3, (40, 5)) for _ in range(3)]
    p = softmax(np.stack(logits), axis=2)
    mean = p.mean(0)
    by_sum = (p * np.log(p / mean)).sum(2).mean(0)  # the mean Kullback-Leibler divergence from the mixture
    np.testing.assert_allclose(disagreement(logits), by_sum, atol=1e-12)
    np.testing.assert_allclose(disagreement([logits[0]] * 4), 0, atol=1e-12)
    sure = [900.0 * np.eye(5)[[member]] for member in range(4)]
    np.testing.assert_allclose(disagreement(sure), np.log(4))
    np.testing.assert_allclose(disagreement([logits[0], logits[0] + 7]), 0, atol=1e-12)
    broken = logits[1].copy()
    broken[3, 2] = np.nan
    assert disagreement([logits[0], broken])[3] == np.log(2)


def member(folder: Path, name: str) -> str:
    """A trained model of digits in its folder."""
    spec = SPEC.model_copy(update={"architecture": Architecture(name=name)})
    save_model(folder / name, trained(name), spec, held(0, 4).x)
    return str(folder / name)


@pytest.mark.slow
def test_an_ensemble_notices_attacks_more_often_than_it_cries_wolf(tmp_path: Path) -> None:
    seen = scene(trained("mlp"), sets=TRUSTED)
    said = Disagreement(fit_on="trusted", models=(member(tmp_path, "small_cnn"),))(seen)
    found = said.estimates
    assert found["disagreement_false_alarms"].low <= 0.1, "the threshold rests on 180 records itself"
    for threat in seen.plan.threats:
        caught, order = found[f"disagreement_recall/{threat.key}"], found[f"disagreement_auroc/{threat.key}"]
        false = found[f"disagreement_fpr95/{threat.key}"]
        assert caught.n > 10
        assert caught.low > found["disagreement_false_alarms"].high
        assert order.low > 0.5
        assert (false.n, order.n) == (180, caught.n)
        assert false.value >= 1 - 20 * (1 - order.value), "the area left of 95 % is at least a twentieth of the false"
    assert 0 < said.facts["threshold"] < np.log(2)
    assert [len(digest) for digest in said.facts["models"]] == [64]


def test_an_ensemble_that_is_none_is_refused(tmp_path: Path) -> None:
    seen = scene(trained("mlp"), sets=TRUSTED)
    twin, other = member(tmp_path, "mlp"), member(tmp_path, "linear")
    for models, match in (((twin,), "itself"), ((other, other), "twice"), ((), "another model")):
        with pytest.raises(UnfitInput, match=match):
            Disagreement(fit_on="trusted", models=models)(seen)
    narrow = SPEC.model_copy(update={"classes": ("0", "1"), "architecture": Architecture(name="linear")})
    save_model(tmp_path / "two", assemble(narrow), narrow, held(0, 4).x)
    with pytest.raises(UnfitInput, match="disagreement: classes"):
        Disagreement(fit_on="trusted", models=(str(tmp_path / "two"),))(seen)
