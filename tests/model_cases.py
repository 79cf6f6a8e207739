"""Small datasets and models for the tests of models and training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from assay.data.dataset import Dataset
from assay.data.manifest import BatchShare, History
from assay.models.assemble import Classifier, assemble
from assay.models.folder import save_model
from assay.models.spec import Architecture, ModelSpec, Preprocessing, Trained


def history(batch: str = "a") -> History:
    return History(step="ingest", role="kept", sources=(BatchShare("clinic", batch, "0" * 64, 0),))


def dataset(columns: dict[str, pa.Array], y: np.ndarray, classes: int, weight: np.ndarray | None = None) -> Dataset:
    keys = {"batch": pa.array(["clinic/a"] * len(y), pa.string()), "row": pa.array(np.arange(len(y)), pa.int64())}
    table = pa.table(keys | columns | {"label": pa.array(y, pa.int64())})
    if weight is not None:
        table = table.append_column("weight", pa.array(weight, pa.float64()))
    return Dataset.make(table, [str(k) for k in range(classes)], history())


def images(x: np.ndarray, y: np.ndarray, classes: int = 10, weight: np.ndarray | None = None) -> Dataset:
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(x))
    return dataset({"image": column}, y, classes, weight)


def digits(rows: slice) -> Dataset:
    """scikit-learn's handwritten digits, uint8, in a fixed shuffled order."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    chosen = np.random.default_rng(0).permutation(len(bunch.target))[rows]
    return images((bunch.images[chosen] / 16 * 255).round().astype(np.uint8), bunch.target[chosen])


def table(n: int = 60, classes: int = 2, seed: int = 0, weight: np.ndarray | None = None) -> Dataset:
    """Gaussian classes two units apart, three columns."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.normal(size=(n, 3)) + 2 * y[:, None]
    return dataset({name: pa.array(x[:, k]) for k, name in enumerate("uvw")}, y, classes, weight)


def spec(name: str = "mlp", shape: tuple[int, ...] = (1, 8, 8), classes: int = 10, **settings: object) -> ModelSpec:
    channels = shape[0]
    return ModelSpec(
        architecture=Architecture(name=name, settings=settings),
        input_shape=shape,
        classes=tuple(str(k) for k in range(classes)),
        preprocessing=Preprocessing(mean=(0.5,) * channels, scale=(0.25,) * channels),
        trained=Trained(method="cross_entropy"),
    )


def module(of: ModelSpec, seed: int = 0) -> Classifier:
    return assemble(of, seed=seed)


def inputs(shape: tuple[int, ...], n: int = 16, seed: int = 0) -> np.ndarray:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)).numpy()


def folder(path: Path, of: ModelSpec | None = None, seed: int = 0) -> Path:
    of = of or spec(hidden=[8])
    save_model(path, module(of, seed), of, inputs(of.input_shape))
    return path
