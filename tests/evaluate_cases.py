"""Models to measure: a network that reads digits, trained in seconds, and what a cheat can put around it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from assay import catalog
from assay.data.dataset import Dataset
from assay.data.manifest import BatchShare, History
from assay.evaluate.ladder import ladder
from assay.evaluate.measure import Plan
from assay.models.assemble import assemble
from assay.models.fit import Examples, Optimisation, deterministic, fit
from assay.models.folder import save_model
from assay.models.spec import Architecture, ModelSpec, Preprocessing, Trained
from assay.threat import ThreatModel

THREATS = (ThreatModel(epsilon=0.1), ThreatModel(norm="l2", epsilon=0.5))
ATTACKS = {"fgsm": {}, "pgd": {"steps": 20, "restarts": 2}}
TEST = 360


@cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """All records in a fixed random order: the first 360 are held out."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x = torch.tensor(data.images[order][:, None] / 16, dtype=torch.float32)
    return x, torch.tensor(data.target[order], dtype=torch.int64)


@cache
def trained(name: str = "mlp", method: str = "cross_entropy", epochs: int = 15) -> nn.Module:
    """A network that reads digits; the same one every time."""
    x, y = (part[TEST:] for part in digits())
    spec = ModelSpec(
        architecture=Architecture(name=name),
        input_shape=(1, 8, 8),
        classes=tuple("0123456789"),
        preprocessing=Preprocessing(mean=(0.0,), scale=(1.0,)),
        trained=Trained(method=method),
    )
    settings = Optimisation(epochs=epochs, batch_size=64, learning_rate=2e-3, weight_decay=0.0, seed=0)
    with deterministic(2):
        model = assemble(spec)
        fit(model, Examples(x, y, torch.ones(len(y))), catalog.build("train", method), THREATS[0], settings)
    return model.eval().requires_grad_(False)


class Around(nn.Module):
    """A network with something around it."""

    def __init__(self, model: nn.Module, answer: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.model, self.answer = model, answer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer(self.model, x)


def decoy(x: torch.Tensor) -> torch.Tensor:
    """Ten smooth functions of the input that say nothing about its class."""
    weight = torch.randn(64, 10, generator=torch.Generator().manual_seed(9)).to(x)
    return x.flatten(1) @ weight


def not_a_number(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A model that has no answer where it is unsure: argmax of NaN is class 0."""
    logits = model(x)
    sure = logits.softmax(1).amax(1, keepdim=True) > 0.9
    return torch.where(sure, logits, torch.nan)


class Reversed(torch.autograd.Function):
    """The input as it is, and its gradient with the other sign."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, *gradient: torch.Tensor) -> torch.Tensor:
        return -gradient[0]


def k_winners(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The answer for the k greatest of the input's cells, the others set to zero: it jumps where two change places."""
    noisy = x + 0.15 * torch.sin(400 * x)
    return model(torch.where(noisy >= noisy.flatten(1).kthvalue(32, dim=1).values[:, None, None, None], noisy, 0 * x))


def saturated(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The order of the logits through a sigmoid so steep that it is flat almost everywhere."""
    logits = model(x)
    return torch.sigmoid(200 * (logits - logits.topk(2, dim=1).values.mean(1, keepdim=True).detach()))


MASKS: dict[str, Callable[[nn.Module, torch.Tensor], torch.Tensor]] = {
    "huge logits": lambda model, x: model(x) * 1e4,
    "rounded input": lambda model, x: model((x * 5).round() / 5),
    "rounded logits": lambda model, x: model(x).round(),
    "detached": lambda model, x: model(x.detach()),
    "detached behind a decoy": lambda model, x: model(x.detach()) + 1e-3 * decoy(x),
    "shattered gradient": lambda model, x: model(x + 0.03 * torch.sin(1000 * x)),
    "noise": lambda model, x: model(x + 0.2 * torch.randn_like(x)),
    "reads the batch": lambda model, x: model(x) + 0.5 * model(x).mean(0, keepdim=True),
    "knows when it is attacked": lambda model, x: (
        functional.one_hot(model(x).argmax(1), 10) + 0.0 * model(x) if torch.is_grad_enabled() else model(x)
    ),
    "not a number": not_a_number,
    "tiny temperature": lambda model, x: (model(x) / 1e-5).softmax(1),
    "saturating sigmoid": saturated,
    "reversed gradient": lambda model, x: model(Reversed.apply(x)),
    "stochastic smoothing": lambda model, x: torch.stack(
        [model(x + 0.3 * torch.randn_like(x)).softmax(1) for _ in range(4)]
    ).mean(0),
    "quantised to two bits": lambda model, x: model((x * 3).round() / 3),
    "k winners": k_winners,
}


def plan(threats: tuple[ThreatModel, ...] = THREATS, **changes: object) -> Plan:
    """What the tests measure."""
    return Plan(threats=threats, rungs=ladder(ATTACKS), **changes)  # type: ignore[arg-type]


def dataset(
    x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], name: str = "held", classes: int = 2, role: str = "holdout"
) -> Dataset:
    """Records of one batch: a table of (N, D), or images of (N, H, W)."""
    columns = {"batch": pa.array([f"source/{name}"] * len(y), pa.string()), "row": pa.array(np.arange(len(y)))}
    if x.ndim == 3:
        columns["image"] = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(x))
    else:
        columns |= {f"f{index}": pa.array(x[:, index]) for index in range(x.shape[1])}
    history = History("ingest", role, (BatchShare("source", name, "0" * 64, len(y)),))
    return Dataset.make(pa.table(columns | {"label": pa.array(y)}), [str(k) for k in range(classes)], history)


def linear_model(
    path: Path,
    weight: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64],
    golden: npt.NDArray[np.float32],
    bounds: tuple[float, float] = (0.0, 1.0),
    trained_on: str = "",
) -> str:
    """A folder of a linear model with given weights (K, D) and biases (K,); returns its digest."""
    spec = ModelSpec(
        architecture=Architecture(name="linear"),
        input_shape=(weight.shape[1],),
        bounds=bounds,
        classes=tuple(str(k) for k in range(len(bias))),
        preprocessing=Preprocessing(mean=(0.0,) * weight.shape[1], scale=(1.0,) * weight.shape[1]),
        trained=Trained(method="cross_entropy", dataset=trained_on),
    )
    module = assemble(spec)
    layer = module.network[1]
    layer.weight.data, layer.bias.data = torch.tensor(weight).float(), torch.tensor(bias).float()
    return save_model(path, module, spec, golden)
