"""Conformal sets hold what they promise; feature squeezing is measured as the detector that it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aspect_cases import held, scene
from evaluate_cases import trained
from scipy.special import softmax

from assay import catalog
from assay.errors import UnfitInput
from assay.evaluate.aspects.conformal import Conformal, cut
from assay.evaluate.aspects.squeezing import Squeezing, squeezed

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
