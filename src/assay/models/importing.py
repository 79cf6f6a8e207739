"""Models that assay did not train: a folder copied after it has proved itself, or weights given an architecture."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
import torch

from assay import lineage
from assay.config.base import parse
from assay.data.dataset import Dataset, features
from assay.data.files import whole_folder
from assay.errors import Refused, UnfitInput
from assay.models.assemble import Classifier, assemble
from assay.models.folder import GOLDEN_RECORDS, load_model, read_weights, save_model
from assay.models.record import put_model
from assay.models.scikit import Layers
from assay.models.spec import FILES, Architecture, ModelSpec, Preprocessing, Trained, model_digest
from assay.models.state_dict import ENDINGS, read_state_dict

COMPARED_RECORDS = 1024
CLOSE = 1e-5

__all__ = ["import_layers", "import_model", "import_weights"]


def import_model(uri: str, *, model: Path, run: str = "") -> dict[str, Any]:
    """Copy a model folder to where a pipeline wants it, after checking all of it and replaying its golden inputs.

    Args:
        uri: a path or ``file://`` of a model folder.
        model: where the copy goes.
        run: id of the pipeline run.

    Returns:
        ``model {path, digest}, architecture, method, dataset``.

    Raises:
        UnfitInput: no model folder, or one with a changed byte.
        Refused: a model that no longer gives its golden outputs.
    """
    with lineage.step("import_model", run) as record:
        source = _local(uri)
        loaded = load_model(source)
        with whole_folder(model) as folder:
            for name in sorted(FILES):
                shutil.copyfile(source / name, folder / name)
            if model_digest(folder) != loaded.digest:
                raise Refused(f"model {source}", "other bytes than those checked", "a folder that nobody writes to")
        put_model(record, model, loaded.spec)
    return _document(model, loaded.spec)


def import_weights(
    weights: Path,
    architecture: Architecture,
    *,
    golden: Path,
    model: Path,
    classes: Sequence[str] = (),
    input_shape: Sequence[int] = (),
    bounds: tuple[float, float] = (0.0, 1.0),
    preprocessing: Preprocessing | None = None,
    run: str = "",
) -> dict[str, Any]:
    """Make a model folder of a safetensors file, or of a state dict that ``torch.save`` wrote.

    Args:
        weights: exactly the tensors of the architecture's state dict, in its types; ``.pt`` and ``.pth`` are read as
            `read_state_dict` says, all else as safetensors.
        architecture: member of ``models`` and its settings.
        golden: a dataset, of which the first 16 records become the golden inputs.
        model: where the folder goes.
        classes: names, in the order of the logits; by default those of the golden dataset.
        input_shape: of one example; by default that of the golden dataset.
        bounds: the box of valid inputs.
        preprocessing: what the model does to its input first; by default nothing.
        run: id of the pipeline run.

    Returns:
        ``model {path, digest}, architecture, method, dataset``.

    Raises:
        UnfitInput: weights that do not fit the architecture, or golden inputs that do not fit the model.
    """
    with lineage.step("import_model", run) as record:
        records = Dataset.load(golden)
        record.uses(records, "calibration")
        rows = records.take(np.arange(min(GOLDEN_RECORDS, len(records))), records.manifest.history)
        inputs = features(rows)
        shape = tuple(input_shape) or inputs.shape[1:]
        none = Preprocessing(mean=(0.0,) * shape[0], scale=(1.0,) * shape[0])
        document = {
            "architecture": architecture,
            "input_shape": shape,
            "bounds": bounds,
            "classes": tuple(classes) or records.manifest.content.classes,
            "preprocessing": preprocessing or none,
            "trained": Trained(method="imported"),
        }
        spec = parse(ModelSpec, document, "model")
        read = read_state_dict if weights.suffix in ENDINGS else None
        save_model(model, read_weights(weights, spec, read=read), spec, inputs)
        put_model(record, model, spec)
    return _document(model, spec)


def import_layers(
    layers: Layers, *, golden: Path, model: Path, bounds: tuple[float, float], run: str = ""
) -> dict[str, Any]:
    """Make a model folder of a network that was read from another library's file.

    Args:
        layers: affine maps with ReLU between them, and the original's own predictions.
        golden: a dataset of the model's columns and classes; its first 16 records become the golden inputs, and on all
            of its records, up to 1,024, the folder's model must say what the original says.
        model: where the folder goes.
        bounds: the box of valid inputs.
        run: id of the pipeline run.

    Raises:
        UnfitInput: other columns, classes or inputs than the golden dataset has, or weights that are not finite.
        Refused: another class, or quantity, than the original's for some record.
    """
    with lineage.step("import_model", run) as record:
        records = Dataset.load(golden)
        record.uses(records, "calibration")
        inputs = features(records.take(np.arange(min(COMPARED_RECORDS, len(records))), records.manifest.history))
        spec = _spec_of(layers, records, inputs.shape[1:], bounds)
        module = assemble(spec)
        state = {f"{1 + 2 * at}.weight": torch.from_numpy(layer) for at, layer in enumerate(layers.weights)}
        state |= {f"{1 + 2 * at}.bias": torch.from_numpy(layer) for at, layer in enumerate(layers.biases)}
        module.network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        _require_same_answers(module.eval(), layers, inputs)
        save_model(model, module, spec, inputs[:GOLDEN_RECORDS])
        put_model(record, model, spec)
    return _document(model, spec)


def _spec_of(layers: Layers, records: Dataset, shape: tuple[int, ...], bounds: tuple[float, float]) -> ModelSpec:
    classes, width = records.manifest.content.classes, layers.weights[0].shape[1]
    if math.prod(shape) != width:
        raise UnfitInput("model: inputs", f"{width}", f"{math.prod(shape)}, as the golden records have")
    if layers.columns and layers.columns != tuple(records.feature_names):
        raise UnfitInput("model: columns", str(layers.columns)[:200], f"{records.feature_names}, in this order"[:300])
    numbers = tuple(str(number) for number in range(len(classes)))
    if layers.classes not in (tuple(classes), numbers):
        raise UnfitInput("model: classes", str(layers.classes)[:200], f"those of the golden records, {classes}"[:300])
    hidden = [len(layer) for layer in layers.weights[:-1]]
    document = {
        "architecture": {"name": "mlp", "settings": {"hidden": hidden}} if hidden else {"name": "linear"},
        "input_shape": shape,
        "bounds": bounds,
        "classes": classes,
        "preprocessing": {"mean": (0.0,) * shape[0], "scale": (1.0,) * shape[0]},
        "trained": {"method": "imported"},
    }
    return parse(ModelSpec, document, "model")


def _require_same_answers(module: Classifier, layers: Layers, inputs: npt.NDArray[np.float32]) -> None:
    with torch.no_grad():
        said = module(torch.from_numpy(inputs)).numpy()
    need = layers.predicts(inputs)
    if not layers.classes:
        away = np.abs(said[:, 0] - need)
        if not (away <= CLOSE * np.maximum(1, np.abs(need).max())).all():
            raise Refused(
                "model", f"quantities up to {away.max():.3g} off the original's", "the same, but for rounding"
            )
        return
    top = np.sort(said, axis=1)[:, -2:]
    sure = top[:, 1] - top[:, 0] > CLOSE * np.maximum(1, np.abs(said).max(axis=1))
    wrong = sure & (said.argmax(1) != need)
    if wrong.any() or not sure.any():
        raise Refused(
            "model",
            f"another class than the original's for {int(wrong.sum())} of {len(inputs)} golden records",
            "the same, wherever the two greatest logits are apart",
        )


def _document(model: Path, spec: ModelSpec) -> dict[str, Any]:
    return {
        "model": {"path": str(model), "digest": model_digest(model)},
        "architecture": spec.architecture.to_json(),
        "method": spec.trained.method,
        "dataset": spec.trained.dataset,
    }


def _local(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        raise UnfitInput("model uri", repr(uri), "a path or file:// of a model folder")
    return Path(unquote(parts.path) if parts.scheme else uri).absolute()
