"""The train step: a dataset in, a model folder out, recorded in the ledger."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from assay import canonical, catalog, lineage, versions
from assay.bernstein import mean_error
from assay.config.base import parse
from assay.config.train import TrainConfig
from assay.data.dataset import Dataset, features
from assay.devices import device_name, device_of
from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion
from assay.models.assemble import Classifier, assemble, rescale_output
from assay.models.checkpoint import Checkpoint
from assay.models.fit import Examples, Method, Optimisation, deterministic, fit
from assay.models.folder import GOLDEN_RECORDS, save_model
from assay.models.record import put_model
from assay.models.spec import ModelSpec, Trained, read_spec
from assay.threat import ThreatModel
from assay.train.inputs import bounds_of, preprocessing_of, quantity_arrays, require_finite, training_arrays

__all__ = ["train"]

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64] | npt.NDArray[np.float64]


def train(
    dataset: Path, config: TrainConfig, *, model: Path, calibration: Path | None = None, run: str = ""
) -> dict[str, Any]:
    """Train a model on a dataset and write its folder.

    Args:
        dataset: folder of the training records.
        config: model, method, optimisation.
        model: where the model folder goes.
        calibration: trusted records, of which the first 16 become the golden inputs; by default the training records.
        run: id of the pipeline run.

    Returns:
        ``model {path, digest}, dataset {digest, content_digest}, method, threat, epochs, final_loss, train_accuracy
        {value, low, high, n, confidence}, seconds``; for a regression ``train_error`` in its place, the mean absolute
        error, with errors counted up to the range of the labels. Equal inputs give an equal digest on one machine
        kind; the time is in nothing that is digested.

    Raises:
        UnfitInput: a dataset that nothing can be learned from; see `training_arrays` and `bounds_of`.
    """
    with lineage.step("train", run) as record, deterministic(config.threads):
        started = time.monotonic()
        records = Dataset.load(dataset)
        record.uses(records, "training")
        regression = records.manifest.content.regression
        arrays = quantity_arrays(records) if regression else training_arrays(records)
        golden = _golden(records, calibration, record)
        module, spec, losses, fitted = _fit(records, arrays, config, model)
        how_well = "train_error" if regression else "train_accuracy"
        save_model(model, module, spec, golden)
        digest = put_model(record, model, spec)
        if (checkpoint := _checkpoint(spec)) is not None:
            checkpoint.remove()
        record.params |= {"method": spec.trained.method, "threat": spec.trained.threat, "epochs": config.epochs}
        record.metrics |= {"final_loss": losses[-1], how_well: fitted.value}
    return {
        "model": {"path": str(model), "digest": digest},
        "dataset": {"digest": spec.trained.dataset, "content_digest": spec.trained.content_digest},
        "method": spec.trained.method,
        "threat": spec.trained.threat,
        "epochs": config.epochs,
        "final_loss": losses[-1],
        how_well: fitted.to_json(),
        "seconds": time.monotonic() - started,
    }


def _fit(
    records: Dataset, arrays: tuple[Floats, Labels, Floats], config: TrainConfig, model: Path
) -> tuple[Classifier, ModelSpec, list[float], Estimate]:
    """The trained module, its spec, the loss of every epoch, and how well it fits the training records."""
    x, y, weight = arrays
    method = _method(config, records.manifest.content.regression)
    threat = ThreatModel.parse(config.threat, bounds_of(x, config.bounds))
    device = device_of(config.device, "train.device")
    document = {
        "architecture": config.model.to_json(),
        "input_shape": x.shape[1:],
        "bounds": threat.bounds,
        "classes": records.manifest.content.classes,
        "preprocessing": preprocessing_of(x),
        "trained": Trained(
            dataset=records.manifest.digest,
            content_digest=records.manifest.content_digest,
            method=config.method.name,
            threat=threat.key if method.defends else "",
            # every setting of the method, so that a gate can tell whether an attack was stronger than this one
            config=config.to_json() | {"method": {"name": config.method.name, "settings": catalog.settings(method)}},
            code=versions.code_digest(),
            image=versions.image(),
            machine=versions.machine() | {"device": device_name(device)},
        ),
    }
    spec = parse(ModelSpec, document, "model")
    _require_free(model, spec)
    module = assemble(spec, seed=config.seed).to(device)
    middle, spread = (float(y.mean()), float(y.std())) if spec.regression else (0.0, 1.0)
    learned = ((y - middle) / spread).astype(np.float32) if spec.regression else y.copy()
    examples = Examples(*(torch.from_numpy(values).to(device) for values in (x.copy(), learned, weight.copy())))
    losses = fit(module, examples, method, threat, _optimisation(config), _checkpoint(spec))
    if not spec.regression:
        return module, spec, losses, _accuracy(module, examples)
    rescale_output(module, middle, spread)
    return module, spec, losses, _error(module, examples.x, y)


def _method(config: TrainConfig, regression: bool) -> Method:
    """The configured method, when it learns what the labels are."""
    method: Method = catalog.build("train", config.method.name, config.method.settings)
    if (getattr(method, "task", "classification") == "regression") != regression:
        labels = "quantities" if regression else "classes"
        fit_for = [name for name in catalog.names("train") if _regresses(name) == regression]
        raise UnfitInput("train.method", f"{config.method.name}, and labels that are {labels}", " or ".join(fit_for))
    return method


def _regresses(name: str) -> bool:
    return getattr(catalog.member("train", name), "task", "classification") == "regression"


def _require_free(model: Path, spec: ModelSpec) -> None:
    """Another model's folder is refused before the training; one of the same training may be made again."""
    if model.is_dir() and any(model.iterdir()) and read_spec(model) != spec:
        raise UnfitInput(str(model), "a folder with another model", "a new name", "Move it away or write elsewhere.")


def _checkpoint(spec: ModelSpec) -> Checkpoint | None:
    """Where this training, and no other, keeps its state: below ``ASSAY_CHECKPOINT_DIR``, when that is set."""
    folder = os.environ.get("ASSAY_CHECKPOINT_DIR")
    return Checkpoint(Path(folder) / f"{canonical.digest(spec.to_json())}.checkpoint") if folder else None


def _optimisation(config: TrainConfig) -> Optimisation:
    return Optimisation(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        seed=config.seed,
    )


def _accuracy(module: Classifier, examples: Examples) -> Estimate:
    with torch.no_grad():
        logits = torch.cat([module(part) for part in torch.split(examples.x, 256)])
    return proportion(int((logits.argmax(1) == examples.y).sum()), len(examples.y))


def _error(module: Classifier, x: torch.Tensor, y: Labels) -> Estimate:
    with torch.no_grad():
        said = torch.cat([module(part) for part in torch.split(x, 256)])[:, 0].double().cpu().numpy()
    return mean_error(np.abs(said - y), float(y.max() - y.min()))


def _golden(records: Dataset, calibration: Path | None, record: lineage.StepRecord) -> Floats:
    """The first 16 trusted records, or training records when no trusted ones are given."""
    trusted = records if calibration is None else Dataset.load(calibration)
    if calibration is not None:
        record.uses(trusted, "calibration")
    if not len(trusted):
        raise UnfitInput("calibration records", "none", "at least one")
    first = trusted.take(np.arange(min(GOLDEN_RECORDS, len(trusted))), trusted.manifest.history)
    inputs = features(first)
    require_finite(first, inputs)
    return inputs
