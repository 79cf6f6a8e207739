"""Scores that tell other records apart: against scikit-learn, against Gaussians whose answer is known, and covering."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from aspect_cases import held, scene
from evaluate_cases import trained
from scipy.spatial.distance import cdist
from scipy.stats import binom, norm
from sklearn.metrics import roc_auc_score, roc_curve

from assay import catalog
from assay.errors import UnfitInput
from assay.evaluate.aspects.out_of_distribution import OutOfDistribution, _made, auroc, false_positive_rate

EVERY = {"trusted": held(180, 300, "trusted"), "others": held(300, 360, "others")}


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_and_false_positive_rate_are_what_scikit_learn_gives(ties: bool) -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1, 1, 400), rng.normal(0, 1, 300)
    if ties:
        inside, outside = inside.round(), outside.round()
    truth, scores = np.repeat([1, 0], [400, 300]), np.concatenate([inside, outside])
    assert auroc(inside, outside).value == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    assert false_positive_rate(inside, outside).value == pytest.approx(false[np.argmax(true >= 0.95)])


@pytest.mark.parametrize("apart", [0.0, 1.0, 3.0])
def test_the_interval_covers_the_known_answer_for_two_gaussians(apart: float) -> None:
    """Closed form Phi(d / sqrt(2)). Statistical: 400 draws; a correct build fails at most once in 10**6 seeds."""
    rng = np.random.default_rng(1)
    truth = norm.cdf(apart / np.sqrt(2))
    made = [auroc(rng.normal(apart, 1, 60), rng.normal(0, 1, 90), 0.8) for _ in range(400)]
    assert sum(each.low <= truth <= each.high for each in made) >= binom.ppf(1e-6, 400, 0.8)
    assert made[0].n == 60


def test_every_score_of_every_set_is_measured_and_noise_is_told_apart() -> None:
    seen = scene(trained("mlp"), sets=EVERY)
    found = OutOfDistribution(sets=("others",), fit_on="trusted")(seen).estimates
    assert len(found) == 3 * 3 * 2
    for score in ("msp", "energy", "mahalanobis"):
        same = found[f"ood_auroc[{score}]/others"]
        assert same.low <= 0.5 <= same.high, "records of the same kind"
    assert found["ood_auroc[mahalanobis]/noise"].low > 0.8
    assert found["ood_auroc[msp]/permuted"].value > 0.8
    assert found["ood_fpr95[mahalanobis]/noise"].value < 0.4


def test_the_distance_is_that_of_scipy() -> None:
    model = trained("mlp")
    seen = scene(model, sets=EVERY)
    found = OutOfDistribution(scores=("mahalanobis",), made=("noise",), fit_on="trusted")(seen).estimates
    of = EVERY["trusted"]
    layers = model.network[:-1]
    fit, inside = (layers(torch.from_numpy(x)).double().numpy() for x in (of.x, seen.data.x))
    outside = layers(_made(seen, "noise")).double().numpy()
    means = np.stack([fit[of.y == label].mean(0) for label in range(10)])
    centred = fit - means[of.y]
    covariance = centred.T @ centred / len(fit)
    inverse = np.linalg.inv(covariance + 1e-6 * np.trace(covariance) / 64 * np.eye(64))
    near = [-(cdist(each, means, "mahalanobis", VI=inverse) ** 2).min(1) for each in (inside, outside)]
    assert found["ood_auroc[mahalanobis]/noise"].value == pytest.approx(auroc(*near).value, abs=2e-4)


def test_an_answer_that_is_not_finite_is_never_to_the_models_advantage() -> None:
    class Silent(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 10), torch.nan)

    found = OutOfDistribution(made=("noise",))(replace(scene(trained("mlp")), model=Silent())).estimates
    assert found["ood_auroc[energy]/noise"].value == 0
    assert found["ood_fpr95[msp]/noise"].value == 1


@pytest.mark.parametrize("given", [{"scores": []}, {"made": []}, {"sets": ["noise"]}], ids=str)
def test_settings_that_measure_nothing_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UnfitInput, match="out_of_distribution"):
        catalog.build("evaluate.aspects", "out_of_distribution", given)


def test_features_are_fitted_on_records_that_are_not_measured() -> None:
    seen = scene(trained("mlp"), sets={"same": held(0, 60)})
    with pytest.raises(UnfitInput, match="hold-out"):
        OutOfDistribution(fit_on="same")(seen)
