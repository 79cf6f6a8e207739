"""Models of scikit-learn, from the one of its formats that runs no code: a skops file becomes linear or mlp, exactly.

Linear classifiers and regressors, and multilayer perceptrons with ReLU, behind any scalers. The scalers and the layers
are one affine map after the other, so a scaler goes into the weights of the first layer. Trees have no such form; they
can be measured as a black box. A file that names any type beyond scikit-learn's own is refused before anything is
built, and so is a pickle, whatever it is called.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.errors import Refused, UnfitInput

MAX_BYTES, MAX_ENTRIES = 2**29, 10_000
TRUSTED = [
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",  # numbers that training left; never asked here
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
]
LINEAR = (
    "LogisticRegression",
    "RidgeClassifier",
    "SGDClassifier",
    "Perceptron",
    "LinearSVC",
    "LinearDiscriminantAnalysis",
)
REGRESSORS = (
    "LinearRegression",
    "Ridge",
    "Lasso",
    "ElasticNet",
    "HuberRegressor",
    "SGDRegressor",
    "LinearSVR",
)
SCALERS = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler")
SCHEMA = "schema.json"

Floats = npt.NDArray[np.float64]

__all__ = ["Layers", "is_skops", "read_skops"]


@dataclass(frozen=True)
class Layers:
    """A network of affine maps with ReLU between them, and the model it was read from.

    Fields:
        weights: one (out, in) a layer; biases: one (out,) a layer. The last gives the logits, or one quantity.
        classes: names in the order of the logits; none where the model gives a quantity.
        columns: names of the inputs in order; empty where the model does not say.
        predicts: class numbers (N,), or quantities (N,), of inputs (N, D), by the original model's own code.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    predicts: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]


def is_skops(path: Path) -> bool:
    """Whether a file is meant as one of skops: by its name, or as an archive that holds a schema."""
    if path.suffix == ".skops" or not zipfile.is_zipfile(path):
        return path.suffix == ".skops"
    with zipfile.ZipFile(path) as archive:
        return SCHEMA in archive.namelist()


def read_skops(path: Path) -> Layers:
    """The layers of a classifier or regressor in a skops file.

    Raises:
        Refused: types that are not scikit-learn's own, or a model without such layers.
        UnfitInput: a file that is broken or too large, or a model that was not fitted.
    """
    _require_small(path)
    model = _load(path)
    steps = [step for _, step in model.steps] if _kind(model) == "Pipeline" else [model]
    last = steps[-1]
    try:
        weights, biases = _network(last, path)
        for scaler in reversed(steps[:-1]):
            mean, scale = _affine(scaler, weights[0].shape[1], path)
            weights[0] = weights[0] / scale
            biases[0] = biases[0] - weights[0] @ mean
        named = None if _regresses(last) else np.asarray(last.classes_)
        classes = () if named is None else tuple(str(name) for name in named.tolist())
        columns = tuple(map(str, getattr(model, "feature_names_in_", ())))
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise UnfitInput(
            f"model {path}", f"{type(error).__name__}: {error}"[:300], "a fitted classifier or regressor"
        ) from error
    return Layers(tuple(weights), tuple(biases), classes, columns, _predicts(model, named, path))


def _require_small(path: Path) -> None:
    """A whole archive of bounded size, and no pickle in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise UnfitInput(f"model {path}", f"{type(error).__name__}: {error}"[:300], "a skops file") from error
    size = sum(entry.file_size for entry in entries)
    if size > MAX_BYTES or len(entries) > MAX_ENTRIES:
        raise UnfitInput(f"model {path}", f"{len(entries)} entries, {size} bytes", f"{MAX_ENTRIES}, {MAX_BYTES}")
    if SCHEMA not in {entry.filename for entry in entries}:
        raise Refused(f"model {path}", "an archive without a schema", "a skops file; nothing is ever unpickled")


def _load(path: Path) -> Any:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return skops.io.load(path, trusted=TRUSTED)
    except UntrustedTypesFoundException as error:
        found = str(error).splitlines()[0]
        raise Refused(
            f"model {path}", found, "scikit-learn's own linear models and perceptrons", "Measure it as a black box."
        ) from error
    except Exception as error:  # a hostile schema can make the reader raise anything
        raise UnfitInput(f"model {path}", f"{type(error).__name__}: {error}"[:300], "a skops file") from error


def _kind(model: Any) -> str:
    kind = type(model)
    return kind.__name__ if kind.__module__.startswith("sklearn.") else f"{kind.__module__}.{kind.__name__}"


def _regresses(model: Any) -> bool:
    return _kind(model) in (*REGRESSORS, "MLPRegressor")


def _network(model: Any, path: Path) -> tuple[list[Floats], list[Floats]]:
    """Weights (out, in) and biases of each layer; of two classes the first logit is 0."""
    ends = {"MLPClassifier": ("softmax", "logistic"), "MLPRegressor": ("identity",)}.get(_kind(model), ())
    if ends and model.activation == "relu" and model.out_activation_ in ends:
        weights = [np.asarray(layer, dtype=np.float64).T for layer in model.coefs_]
        biases = [np.asarray(layer, dtype=np.float64) for layer in model.intercepts_]
    elif _kind(model) in (*LINEAR, *REGRESSORS):
        weights = [np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))]
        biases = [np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64), len(weights[0])).copy()]
    else:
        what = _kind(model) + (f" with {model.activation}" if ends else "")
        need = f"{', '.join((*LINEAR, *REGRESSORS))}, or MLPClassifier or MLPRegressor with relu"
        raise Refused(f"model {path}", what, need, "Measure it as a black box.")
    if _regresses(model):
        if len(weights[-1]) != 1:
            raise Refused(f"model {path}", f"{len(weights[-1])} quantities", "one")
        return weights, biases
    count = len(model.classes_)
    if count == 2 and len(weights[-1]) == 1:
        weights[-1] = np.concatenate([np.zeros_like(weights[-1]), weights[-1]])
        biases[-1] = np.concatenate([np.zeros_like(biases[-1]), biases[-1]])
    if len(weights[-1]) != count:
        raise Refused(f"model {path}", f"{len(weights[-1])} outputs for {count} classes", "one a class")
    return weights, biases


def _affine(scaler: Any, width: int, path: Path) -> tuple[Floats, Floats]:
    """What a scaler does, as ``(x - mean) / scale``, (D,) each."""
    zero, one = np.zeros(width), np.ones(width)
    kind = _kind(scaler)
    if kind not in SCALERS or (kind == "MinMaxScaler" and scaler.clip):
        raise Refused(
            f"model {path}", f"a step {kind}", f"{', '.join(SCALERS)} without clipping, before the classifier"
        )
    if kind == "MinMaxScaler":
        times = np.asarray(scaler.scale_, dtype=np.float64)
        return -np.asarray(scaler.min_, dtype=np.float64) / times, 1 / times
    mean = getattr(scaler, "mean_", None) if getattr(scaler, "with_mean", False) else None
    scale = scaler.scale_
    return (zero if mean is None else np.asarray(mean, dtype=np.float64)), (
        one if scale is None else np.asarray(scale, dtype=np.float64)
    )


def _predicts(
    model: Any, classes: npt.NDArray[Any] | None, path: Path
) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]:
    def predicts(x: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                said = np.asarray(model.predict(x.reshape(len(x), -1).astype(np.float64)))
        except Exception as error:
            raise UnfitInput(
                f"model {path}", f"{type(error).__name__}: {error}"[:300], "a fitted classifier or regressor"
            ) from error
        if classes is None:
            return said.astype(np.float64).reshape(len(x))
        place = {name: number for number, name in enumerate(classes.tolist())}
        return np.array([place[name] for name in said.tolist()], dtype=np.int64)

    return predicts
