"""What every file in ``train`` promises; a new training method is tested here without an edit."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from model_cases import inputs, module, spec

from assay import canonical, catalog
from assay.models.fit import Examples, Optimisation, deterministic, fit
from assay.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = catalog.names("train")
REGRESSIONS = {name for name in METHODS if getattr(catalog.member("train", name), "task", "") == "regression"}
SETTINGS = Optimisation(epochs=3, batch_size=8, learning_rate=5e-3, weight_decay=0.0, seed=0)


def case(name: str, dtype: torch.dtype = torch.float32):
    regression = name in REGRESSIONS
    model = module(spec("mlp", (1, 4, 4), classes=0 if regression else 3, hidden=[8])).to(dtype)
    x = torch.from_numpy(inputs((1, 4, 4), n=12)).to(dtype)
    y = torch.arange(12) % 3
    return model.train(), x, (y - 1).to(dtype) if regression else y


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_family_has_the_three_first_methods():
    assert {"adversarial", "cross_entropy", "huber"} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_gives_one_loss_per_example_that_reaches_every_weight(name):
    model, x, y = case(name)
    loss = catalog.build("train", name).loss(model, x, y, threat=ThreatModel(epsilon=0.1), generator=rng())
    assert loss.shape == (12,)
    assert (loss >= 0).all()
    assert model.training, "the mode is left as it was"
    assert all(parameter.grad is None for parameter in model.parameters()), "an attack inside leaves no gradients"
    loss.mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_an_example_has_the_loss_it_has_alone(name):
    """Weights then multiply examples; tried with a generator each, as an attack draws for the whole batch."""
    method = catalog.build("train", name)
    if method.defends:
        pytest.skip("its random start differs from batch to batch")
    model, x, y = case(name, torch.float64)
    threat = ThreatModel(epsilon=0.1)
    together = method.loss(model, x, y, threat=threat, generator=rng())
    alone = [method.loss(model, x[k : k + 1], y[k : k + 1], threat=threat, generator=rng())[0] for k in range(12)]
    torch.testing.assert_close(together, torch.stack(alone))


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_gives_the_same_weights_and_another_seed_others(name):
    def weights(seed: int) -> bytes:
        model, x, y = case(name)
        with deterministic(1):
            examples = Examples(x, y, torch.ones(12))
            settings = dataclasses.replace(SETTINGS, seed=seed)
            fit(model, examples, catalog.build("train", name), ThreatModel(epsilon=0.1), settings)
        return b"".join(value.numpy().tobytes() for value in model.state_dict().values())

    assert weights(0) == weights(0)
    assert weights(0) != weights(1)


@pytest.mark.parametrize("name", METHODS)
def test_learns_what_can_be_learned(name):
    model, x, y = case(name)
    settings = dataclasses.replace(SETTINGS, epochs=80, batch_size=12, learning_rate=3e-2)
    losses = fit(
        model, Examples(x, y, torch.ones(12)), catalog.build("train", name), ThreatModel(epsilon=0.01), settings
    )
    assert len(losses) == 80
    assert losses[-1] < losses[0] / 2
    said = model(x)
    assert (((said[:, 0] - y).abs() < 0.5) if name in REGRESSIONS else (said.argmax(1) == y)).all()
    assert not model.training


@pytest.mark.parametrize("name", METHODS)
def test_settings_are_the_whole_configuration(name):
    method = catalog.build("train", name)
    assert catalog.build("train", name, catalog.settings(method)) == method
    assert canonical.dumps(catalog.settings(method))
