"""The networks of the filter are fitted and asked on the device that was asked for."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from assay.config.filters import FilterConfig
from assay.errors import UnfitInput
from assay.filters import _proxy, _resampling
from assay.filters.examine import look
from assay.filters.scoring import members
from assay.poison import Patch, plant


def test_every_tensor_of_the_networks_is_on_their_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors on ``meta`` hold nothing and, like a GPU's, cannot be mixed with the CPU's: a forgotten one raises."""
    x, y, device = torch.rand(300, 1, 8, 8), np.arange(300) % 3, torch.device("meta")
    monkeypatch.setattr(torch.optim, "Adam", lambda *args, fused, **options: torch.optim.AdamW(*args, **options))
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: torch.zeros(tensor.shape, dtype=tensor.dtype))
    monkeypatch.setattr(_resampling, "LEAST_STEPS", 2)
    monkeypatch.setattr(_resampling, "PASSES", 0)
    proxy = _proxy.fit_proxy(x, y, 3, epochs=1, seed=0, device=device)
    assert {parameter.device for parameter in proxy.parameters()} == {device}
    assert [said.shape for said in proxy.measure(x)] == [(300, 64), (300, 3)]
    assert proxy.overlaid(x, x[:2]).shape == (300, 2)
    assert [said.shape for said in _resampling.resampling(x, 0, device)] == [(300, 1), (300, 64)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_refused_by_name() -> None:
    x, y = np.random.default_rng(0).standard_normal((40, 3), dtype=np.float32), np.arange(40) % 2
    config = FilterConfig(device="cuda")
    with pytest.raises(UnfitInput, match=r"filter\.device: got cuda, and there is none"):
        look(x, y, ["a", "b"] * 20, 2, None, config, members(config.detectors))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_decides_as_a_cpu_does() -> None:
    """Other numbers, the same records: 40 patched digits of one source of three, found on both, no clean one lost."""
    digits = load_digits()
    x, y = (digits.images[:1500, None] / 16).astype(np.float32), digits.target[:1500].astype(np.int64)
    sources = np.arange(1500) % 3
    x, y, planted = plant(
        x, y, Patch(size=2), target=3, count=40, generator=np.random.default_rng(0), among=sources == 1
    )
    removed = []
    for device in ("cpu", "cuda"):
        config = FilterConfig.model_validate({"device": device})
        found, made = look(x, y, [f"s{k}" for k in sources], 10, None, config, members(config.detectors))
        removed.append(made.decision.removed)
        assert found.marks is not None
        assert isinstance(found.penultimate.records, np.ndarray)
    for gone in removed:
        assert gone[planted].mean() >= 0.95
        assert gone[~planted].sum() <= 4


def test_the_device_asked_for_is_that_of_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the configuration to both kinds of network."""
    asked: list[tuple[str, str]] = []
    seen: list[torch.device] = []
    fit, learn = _proxy.fit_proxy, _resampling.resampling
    monkeypatch.setattr(_proxy, "fit_proxy", lambda *a, device, **o: seen.append(device) or fit(*a, **o))
    monkeypatch.setattr(_resampling, "resampling", lambda x, seed, device: seen.append(device) or learn(x, seed))
    x, y = np.random.default_rng(0).random((60, 1, 4, 4), dtype=np.float32), np.arange(60) % 2
    config = FilterConfig(device="auto", epochs=1)
    monkeypatch.setattr("assay.devices.device_of", partial(_told, asked))
    look(x, y, ["a", "b"] * 30, 2, None, config, members(config.detectors))
    assert asked == [("auto", "filter.device")]
    assert seen == [torch.device("cpu")] * 4


def _told(asked: list[tuple[str, str]], wanted: str, setting: str) -> torch.device:
    asked.append((wanted, setting))
    return torch.device("cpu")
