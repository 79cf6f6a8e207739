"""Calibration against closed forms, against scikit-learn, and on the whole way to a verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aspect_cases import held, looked, scene
from evaluate_cases import THREATS, trained
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from torch import nn

from assay.errors import UnfitInput, UnknownName
from assay.evaluate.aspects.calibration import Calibration, binned, certainty, temperature
from assay.gate.rules.calibration import Calibration as Rule
from assay.intervals import UNITS


def test_a_model_that_states_too_much_is_off_by_what_is_known() -> None:
    """Closed form: logits (z, 0) state 1 / (1 + exp(-z)); labels drawn at certainty 0.7 make the error stated - 0.7."""
    rng = np.random.default_rng(0)
    logits = np.zeros((20_000, 2))
    logits[:, 0] = np.log(9)  # states 0.9
    y = (rng.uniform(size=20_000) > 0.7).astype(np.int64)
    found = Calibration()._measured(logits, y, 0.999999)
    for name in ("calibration_error", "calibration_error[equal_mass]"):
        assert found[name].low <= 0.2 <= found[name].high
        assert found[name].value == pytest.approx(0.2, abs=0.02)
    assert temperature(logits, y) == pytest.approx(np.log(9) / np.log((y == 0).sum() / (y == 1).sum()), rel=1e-5)


def test_the_error_is_what_scikit_learn_gives() -> None:
    rng = np.random.default_rng(1)
    stated, right = rng.uniform(0.2, 1, 997), rng.uniform(size=997) < 0.6
    true, predicted = calibration_curve(right, stated, n_bins=10)
    counts = np.histogram(stated, np.linspace(0, 1, 11))[0]
    expected = (counts[counts > 0] / 997 * np.abs(true - predicted)).sum()
    made = binned(stated, right, 10)
    assert sum(abs(it.successes - it.stated / UNITS) for it in made) / 997 == pytest.approx(expected, abs=1e-8)
    assert [it.trials for it in binned(np.array([0.5, 0.500001]), np.ones(2, bool), 2)] == [1, 1], "(low, high]"
    sizes = [it.trials for it in binned(stated, right, 10, mass=True)]
    assert max(sizes) - min(sizes) <= 1


def test_brier_score_and_log_loss_are_what_scikit_learn_gives() -> None:
    rng = np.random.default_rng(2)
    logits, y = rng.normal(0, 2, (400, 5)), rng.integers(0, 5, 400)
    found, shares = Calibration()._measured(logits, y, 0.95), softmax(logits, axis=1)
    assert found["log_loss"].value == pytest.approx(log_loss(y, shares), abs=1e-4)
    expected = brier_score_loss(y, shares, scale_by_half=False, labels=range(5))
    assert found["brier_score"].value == pytest.approx(expected, abs=1e-5)


def test_an_answer_that_is_not_finite_is_sure_and_wrong() -> None:
    stated, right = certainty(np.array([[np.nan, 0.0], [np.inf, 0.0], [0.0, 1.0]]), np.array([0, 0, 1]))
    assert stated[:2].tolist() == [1.0, 1.0]
    assert right.tolist() == [False, False, True]
    with pytest.raises(UnfitInput, match="finite"):
        temperature(np.array([[np.nan, 0.0]]), np.array([0]))


class Hot(nn.Module):
    """A network whose logits are too large by a factor."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * self.model(x)


def test_the_fitted_temperature_undoes_a_factor_and_leaves_the_hold_out_alone() -> None:
    base = scene(trained("mlp"), sets={"trusted": held(180, 360, "trusted")}, records=180)
    plain, hot = (
        Calibration(fit_on="trusted", under_attack=False)(replace(base, model=model))
        for model in (base.model, Hot(base.model, 6.0))
    )
    assert hot.facts["temperature"] == pytest.approx(6 * plain.facts["temperature"], rel=1e-3)
    name = "calibration_error[scaled]"
    assert hot.estimates[name].value == pytest.approx(plain.estimates[name].value, abs=1e-3)
    assert hot.estimates["log_loss[scaled]"].value < hot.estimates["log_loss"].value
    with pytest.raises(UnfitInput, match="hold-out"):
        Calibration(fit_on="trusted")(replace(base, data=base.sets["trusted"]))
    with pytest.raises(UnknownName, match="trusted"):
        Calibration(fit_on="trustd")(base)


def test_under_attack_the_same_model_is_worse_calibrated() -> None:
    found = Calibration()(scene(trained("mlp"), records=180)).estimates
    for threat in THREATS:
        assert found[f"calibration_error/{threat.key}"].low > found["calibration_error"].value
        assert found[f"brier_score/{threat.key}"].value > found["brier_score"].value


def test_it_reaches_the_evidence_the_page_and_the_rule(tmp_path: Path, workspace: Any) -> None:
    found = looked(workspace, tmp_path, aspects={"calibration": {}})
    assert found.evidence.measured["aspects"]["calibration"]["bins"] == 10
    assert "calibration_error/linf:0.05" in found.evidence.estimates
    assert "Calibration" in found.page
    for value, verdict in ((1.0, "holds"), (1e-4, "misses")):
        rule = Rule(value=value, threat="linf:0.05")
        assert rule(found.case).verdict == verdict, "made again at the attempt's confidence"
