"""Randomized smoothing against what is known of a plane, the formula, its cap, and every other classifier nearby."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aspect_cases import looked, scene
from evaluate_cases import trained
from scipy.stats import beta, binom, norm
from torch import nn

from assay import catalog
from assay.errors import UnfitInput
from assay.evaluate.aspects.smoothing import Smoothing
from assay.evaluate.smoothing import ABSTAINS, radius_of, smooth
from assay.gate.rules.certified_at_least import CertifiedAtLeast
from assay.intervals import certified_share


class Plane(nn.Module):
    """Class 1 where w.x > b."""

    def __init__(self, weight: torch.Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = x.flatten(1) @ self.weight - self.bias
        return torch.stack([-score, score], 1)


PLANE = Plane(torch.tensor([3.0, 4.0]), 2.5)
GIVEN: dict[str, Any] = {"sigma": 0.5, "selection": 50, "samples": 1000}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("hits", [0, 1, 500, 501, 800, 999, 1000])
def test_the_radius_is_the_formula_of_the_exact_lower_end(hits: int) -> None:
    """Reference: scipy's beta and normal quantiles; Cohen et al., theorem 1 and algorithm CERTIFY."""
    share = beta.ppf(0.001, hits, 1000 - hits + 1) if hits else 0.0
    expected = 0.25 * norm.ppf(share) if share > 0.5 else 0.0
    assert radius_of(hits, 1000, 0.25, 0.001) == pytest.approx(expected, abs=1e-12)


def test_certifies_what_the_published_code_certifies_given_the_same_counts() -> None:
    """Answers of ``Smooth.certify`` in locuslab/smoothing (code/core.py at bdfa228), recorded for counts given to it.

    ``python benchmarks/bench_smoothing.py --cohen core.py`` compares all counts up to 1,000 with that file itself.
    """
    recorded = json.loads((Path(__file__).parent / "cohen_certify.json").read_text())
    assert len(recorded) == 51
    for hits, samples, sigma, alpha, predicted, radius in recorded:
        found = radius_of(hits, samples, sigma, alpha)
        assert found == pytest.approx(radius, abs=1e-12)
        assert (found > 0) == (predicted == 1)


def test_no_radius_is_above_the_cap_and_far_from_the_border_it_is_the_cap() -> None:
    x = torch.tensor([[20.0, 20.0], [-20.0, -20.0]])
    found = smooth(PLANE, x, **GIVEN, alpha=0.001, generator=rng())
    assert found.predicted.tolist() == [1, 0]
    assert found.radius == pytest.approx(0.5 * norm.ppf(0.001 ** (1 / 1000)), abs=1e-12)
    assert found.samples == 2 * 1050


@pytest.mark.slow
def test_of_a_plane_no_certified_radius_is_greater_than_the_distance_more_often_than_alpha() -> None:
    """Statistical: the smoothed plane is the plane, its radius the distance. 400 records, failure chance below 1e-6."""
    x = 0.9 * torch.randn(400, 2, generator=rng(3))
    distance = ((x @ PLANE.weight - 2.5).abs() / 5).numpy()
    truth = (x @ PLANE.weight > 2.5).long().numpy()
    found = smooth(PLANE, x, **GIVEN, alpha=0.05, generator=rng(4))
    certified = found.predicted != ABSTAINS
    wrong = certified & ((found.predicted != truth) | (found.radius > distance))
    assert wrong.sum() <= binom.isf(1e-6, 400, 0.05)
    near = certified & (distance < 0.8)
    assert np.median((found.radius / distance)[near]) > 0.8, "and most of the distance is certified"


@pytest.mark.slow
def test_where_two_classes_are_equally_frequent_it_abstains() -> None:
    on_the_border = torch.tensor([[0.5, 0.25]]).repeat(200, 1)
    found = smooth(PLANE, on_the_border, **GIVEN, alpha=0.01, generator=rng(5))
    assert (found.predicted != ABSTAINS).sum() <= binom.isf(1e-6, 200, 0.02)
    assert (found.radius[found.predicted == ABSTAINS] == 0).all()


def test_an_answer_that_is_not_finite_counts_for_no_class() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x[:, :1] > 0, torch.nan, torch.tensor([[1.0, 0.0]]))

    found = smooth(Broken(), torch.tensor([[0.0], [9.0]]), **GIVEN, alpha=0.001, generator=rng())
    assert found.predicted.tolist() == [ABSTAINS, ABSTAINS]


def test_the_share_that_counts_is_that_of_the_class_chosen_before() -> None:
    """The few copies say one class, the many another: the many may not choose again."""

    class Fickle(nn.Module):
        seen = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += len(x)
            return torch.eye(2)[0 if self.seen <= 50 else 1].repeat(len(x), 1)

    found = smooth(Fickle(), torch.zeros(1, 2), **GIVEN, alpha=0.001, generator=rng())
    assert found.predicted.tolist() == [ABSTAINS]


def test_every_radius_is_computed_at_its_part_of_the_chance() -> None:
    """Of a model that never doubts every radius is the cap, at alpha / N."""

    class Sure(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(10)[0].repeat(len(x), 1)

    seen = scene(Sure(), records=50)
    cap = 0.25 * norm.ppf((1e-3 / 50) ** (1 / 300))
    given: dict[str, Any] = {"samples": 300, "selection": 10, "alpha": 1e-3}
    found = Smoothing(**given, radii=((cap - 1e-6) / 0.25, (cap + 1e-6) / 0.25))(seen).estimates
    counts = [each.counts["successes"] for name, each in found.items() if name.startswith("certified")]
    assert counts == [int((seen.y == 0).sum()), 0]


def test_the_size_of_a_pass_changes_memory_and_not_what_is_certified() -> None:
    x = torch.randn(20, 2, generator=rng(6))
    first, other = (smooth(PLANE, x, **GIVEN, alpha=0.01, generator=rng(1), chunk=chunk) for chunk in (16, 1000))
    both = (first.predicted != ABSTAINS) & (other.predicted != ABSTAINS)
    assert (first.predicted == other.predicted)[both].all()
    assert np.abs(first.radius - other.radius)[both].max() < 0.25


@pytest.mark.slow
def test_certified_accuracy_is_counted_with_the_chance_that_a_radius_is_wrong() -> None:
    seen = scene(trained("mlp"), records=60)
    aspect = Smoothing(samples=400, selection=40, alpha=1e-3)
    found = aspect(seen)
    again = smooth(seen.model, seen.x, sigma=0.25, selection=40, samples=400, alpha=1e-3 / 60,
                   generator=next(seen.blocks("smoothing"))[2], chunk=1024)  # fmt: skip
    hits = int(((again.predicted == seen.data.y) & (again.radius >= 0.125)).sum())
    assert found.estimates["certified_accuracy[smoothed=0.25]/l2:0.125"] == certified_share(hits, 60, 1_000_000)
    assert found.facts["radius_cap"] == pytest.approx(0.25 * norm.ppf((1e-3 / 60) ** (1 / 400)))
    values = [
        found.estimates[f"certified_accuracy[smoothed=0.25]/l2:{radius}"].value for radius in (0.125, 0.25, 0.375)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] <= found.estimates["smoothed_accuracy[smoothed=0.25]"].value
    assert replace(aspect, threads=1)(seen).estimates == found.estimates
    assert replace(aspect, limit=20)(seen).estimates["smoothed_accuracy[smoothed=0.25]"].n == 20


@pytest.mark.parametrize(
    "given", [{"sigma": 0}, {"samples": 0}, {"alpha": 0.0}, {"radii": []}, {"radii": [-1.0]}], ids=str
)
def test_settings_that_certify_nothing_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UnfitInput, match=r"aspects\.smoothing"):
        catalog.build("evaluate.aspects", "smoothing", given)


def test_a_certificate_of_the_smoothed_classifier_is_none_of_the_network(tmp_path: Path, workspace: Any) -> None:
    aspect = {"sigma": 0.05, "samples": 500, "radii": [0.5, 1.0]}
    found = looked(workspace, tmp_path, aspects={"smoothing": aspect})
    assert found.evidence.measured["aspects"]["smoothing"]["samples"] == 500
    assert CertifiedAtLeast(threat="l2:0.025", value=0.3)(found.case).verdict == "not_measured"
    assert CertifiedAtLeast(threat="l2:0.025", value=0.3, smoothed=0.05)(found.case).verdict == "holds"
    assert CertifiedAtLeast(threat="l2:0.04", value=0.3, smoothed=0.05)(found.case).verdict == "holds", (
        "by a larger one"
    )
    assert CertifiedAtLeast(threat="l2:0.025", value=0.3, smoothed=0.1)(found.case).verdict == "not_measured"
    late = replace(found.case, attempt=200)
    assert CertifiedAtLeast(threat="l2:0.025", value=0.3, smoothed=0.05)(late).verdict == "not_measured", (
        "alpha is spent"
    )
    assert math.isclose(found.evidence.estimates["certified_accuracy[smoothed=0.05]/l2:0.05"].confidence, 0.95)
