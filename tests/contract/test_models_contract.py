"""What every file in ``models`` promises; a new architecture is tested here without an edit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_cases import folder, inputs, module, spec

from assay import catalog
from assay.attacks.pgd import PGD
from assay.errors import UnfitInput
from assay.models.folder import load_model
from assay.threat import ThreatModel

MODELS = catalog.names("models")
SHAPES = [(1, 8, 8), (3, 32, 32), (1, 7, 9), (20,)]


def cases():
    return [(name, shape) for name in MODELS for shape in SHAPES if not (name == "small_cnn" and len(shape) == 1)]


def test_the_family_has_the_three_first_models():
    assert {"linear", "mlp", "small_cnn"} <= set(MODELS)


@pytest.mark.parametrize(("name", "shape"), cases())
def test_gives_finite_logits_of_one_record_as_of_many(name, shape):
    model = module(spec(name, shape, classes=4)).eval()
    x = torch.from_numpy(inputs(shape, n=5))
    logits = model(x)
    assert logits.shape == (5, 4)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(model(x[2:3]), logits[2:3])
    assert model(x[:0]).shape == (0, 4)


@pytest.mark.parametrize(("name", "shape"), cases())
def test_initial_weights_follow_from_the_seed_alone(name, shape):
    state = torch.random.get_rng_state()
    first, again, other = (module(spec(name, shape), seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not all(torch.equal(value, other[key]) for key, value in first.items())


@pytest.mark.parametrize(("name", "shape"), cases())
def test_keeps_its_logits_through_the_folder(name, shape, tmp_path):
    of = spec(name, shape)
    loaded = load_model(folder(tmp_path / "model", of, seed=1))
    x = torch.from_numpy(inputs(shape, seed=9))
    with torch.no_grad():
        assert torch.equal(loaded.module(x), module(of, seed=1).eval()(x))
    assert loaded.spec == of
    assert not loaded.module.training
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())


@pytest.mark.parametrize(("name", "shape"), cases())
def test_can_be_attacked_in_input_space_in_both_precisions(name, shape):
    for dtype in (torch.float32, torch.float64):
        model = module(spec(name, shape)).to(dtype).eval()
        x = torch.from_numpy(inputs(shape, n=3)).to(dtype)
        threat = ThreatModel(epsilon=0.05)
        y = model(x).argmax(1)
        x_adv = PGD(steps=3, restarts=1)(model, x, y, threat, generator=torch.Generator().manual_seed(0))
        assert x_adv.dtype == dtype
        assert not torch.equal(x_adv, x)


@pytest.mark.parametrize("name", MODELS)
def test_settings_are_the_whole_configuration(name):
    member = catalog.build("models", name)
    assert dataclasses.is_dataclass(member)
    assert catalog.build("models", name, catalog.settings(member)) == member


def test_preprocessing_is_inside_the_model():
    of = spec("linear", (3, 4, 4)).model_copy(
        update={"preprocessing": spec().preprocessing.model_copy(update={"mean": (0.1, 0.2, 0.3), "scale": (1, 2, 4)})}
    )
    model, x = module(of), inputs((3, 4, 4))
    by_hand = (x - np.float32([0.1, 0.2, 0.3]).reshape(3, 1, 1)) / np.float32([1, 2, 4]).reshape(3, 1, 1)
    torch.testing.assert_close(model(torch.from_numpy(x)), model.network(torch.from_numpy(by_hand)))
    assert not any(name in model.state_dict() for name in ("mean", "scale")), "model.json holds them, once"


def test_refuses_shapes_and_settings_it_cannot_build():
    for name, shape, settings in [
        ("small_cnn", (20,), {}),
        ("small_cnn", (1, 3, 8), {}),
        ("small_cnn", (1, 8, 8), {"width": 0}),
        ("mlp", (4,), {"hidden": []}),
        ("mlp", (4,), {"hidden": [8, 0]}),
    ]:
        with pytest.raises(UnfitInput):
            module(spec(name, shape, **settings))
