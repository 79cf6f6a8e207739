"""Confusions and other sets: exact where the worst case is, counted where it is not, and asked for by the rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aspect_cases import held, looked, scene
from evaluate_cases import THREATS, dataset, trained
from torch import nn

from assay import catalog
from assay.errors import UnfitInput, UnknownName
from assay.estimate import proportion
from assay.evaluate.aspects.confusions import Confusions
from assay.gate.rules.at_least import AtLeast
from assay.gate.rules.never_confuse import NeverConfuse


def linear(seed: int = 0) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(10, 64, generator=torch.Generator().manual_seed(seed)) / 4)
    return model.eval().requires_grad_(False)


def test_aimed_at_a_class_the_attack_counts_what_the_exact_worst_case_of_two_planes_is() -> None:
    """Reference: with two logits that matter, z_b - z_a + epsilon |w_b - w_a|_1 > 0, where the box is out of reach."""
    model = linear()
    model[1].bias.data[2:] = -1e4
    seen = scene(model, records=180)
    inner = 0.2 + 0.6 * seen.x
    seen = replace(seen, x=inner, data=replace(seen.data, x=inner.numpy()))
    found = Confusions(pairs=(("3", "1"),))(seen).estimates
    x = inner[seen.y == 3]
    gap = model(x)[:, 1] - model(x)[:, 0]
    reach = 0.1 * (model[1].weight[1] - model[1].weight[0]).abs().sum()
    assert found["confused[3->1]"] == proportion(int((gap > 0).sum()), len(x))
    assert found["confused[3->1]/linf:0.1:targeted:white-box"] == proportion(int((gap + reach > 0).sum()), len(x))


@pytest.mark.slow
def test_canaries_are_counted_by_themselves_and_an_attack_confuses_no_fewer() -> None:
    seen = scene(trained("mlp"), sets={"canaries": held(180, 360, "canaries")})
    found = Confusions(pairs=(("8", "1"),), sets=("canaries",))(seen).estimates
    of = seen.sets["canaries"]
    called = trained("mlp")(torch.from_numpy(of.x[of.y == 8])).argmax(1)
    clean = found["confused[8->1]/canaries"]
    assert clean == proportion(int((called == 1).sum()), int((of.y == 8).sum()))
    for threat in THREATS:
        attacked = found[f"confused[8->1]/canaries/{threat.key}:targeted:white-box"]
        assert attacked.n == clean.n
        assert attacked.counts["successes"] >= clean.counts["successes"]


@pytest.mark.parametrize("pairs", [(), (("1", "1"),)])
def test_pairs_that_say_nothing_are_refused(pairs: Any) -> None:
    with pytest.raises(UnfitInput, match="pairs"):
        catalog.build("evaluate.aspects", "confusions", {"pairs": pairs})


def test_classes_and_sets_that_nobody_knows_are_refused() -> None:
    with pytest.raises(UnknownName, match="class"):
        Confusions(pairs=(("1", "eleven"),))(scene(linear()))
    with pytest.raises(UnknownName, match="set"):
        Confusions(pairs=(("1", "2"),), sets=("none",))(scene(linear()))


def test_a_model_without_an_answer_confuses_everything() -> None:
    broken = linear()
    broken[1].weight.data[4, 0] = torch.nan
    found = Confusions(pairs=(("3", "1"),), under_attack=False)(scene(broken)).estimates["confused[3->1]"]
    assert found.value == 1


def test_never_confuse_and_worst_slice_read_what_is_written(tmp_path: Path, workspace: Any) -> None:
    rng = np.random.default_rng(5)
    x = rng.uniform(0.1, 0.9, (60, 8)).astype(np.float32)
    canaries = dataset(x, rng.integers(0, 2, 60), "night")
    canaries.save(tmp_path / "night")
    found = looked(
        workspace,
        tmp_path,
        aspects={"confusions": {"pairs": [["1", "0"]], "sets": ["night"]}, "sets": {}},
        sets={"night": str(tmp_path / "night")},
    )
    given: dict[str, Any] = {"label": "1", "predicted": "0", "value": 0.9}
    for more in ({}, {"canaries": "night"}, {"canaries": "night", "threat": "linf:0.05"}):
        assert NeverConfuse(**given, **more)(found.case).verdict == "misses"
    assert NeverConfuse(**given, threat="linf:0.3")(found.case).verdict == "not_measured"
    clean = found.evidence.estimates["clean_accuracy[set=night]"]
    attacked = found.evidence.estimates["robust_accuracy[set=night]/linf:0.05"]
    assert (clean.n, attacked.n) == (60, 60)
    assert attacked.value <= clean.value < 0.8
    which = found.evidence.measured["sets"]["night"]
    assert which == {
        "manifest": canaries.manifest.digest, "content": canaries.manifest.content_digest, "records": 60
    }  # fmt: skip
    assert found.evidence.soundness["night_unseen"] == "not_measured"
    for estimate, threat in (("clean_accuracy", ""), ("robust_accuracy", "linf:0.05")):
        rule = AtLeast(estimate=f"{estimate}[set=night]", threat=threat, value=0.9)
        assert rule(found.case).verdict == "misses"
