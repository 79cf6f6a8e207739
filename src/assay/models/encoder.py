"""What a given model makes of records, for whoever measures distances there; torch is loaded with the model.

The model is a folder as `assay.models.folder` reads it, checked by digest, finite weights and golden replay, and never
unpickled. It is an encoder in the sense that the activations of one of its layers are taken; it decides nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.config.encoder import EncoderConfig
from assay.data.dataset import Dataset, features
from assay.data.manifest import Manifest
from assay.data.matrix import Floats
from assay.errors import UnfitInput, UnknownName

if TYPE_CHECKING:
    import torch

BATCH = 512
MAX_BYTES = 2**32

__all__ = ["Encoder", "load_encoder"]


@dataclass(frozen=True)
class Encoder:
    """A layer of a model.

    Fields:
        digest: of the model folder.
        layer: whose activations are taken: the output of a module by its name in the network, or, empty, what the last
            linear layer reads.
        shape: of one record, as the model wants it.
        run: (M, *shape) float32 to activations (M, ...).
        where: setting that names the model, for errors.
    """

    digest: str
    layer: str
    shape: tuple[int, ...]
    run: Callable[[Any], torch.Tensor]
    where: str

    def __call__(self, x: npt.NDArray[np.float32]) -> Floats:
        """Embeddings (N, E) float64 of records (N, *shape).

        Raises:
            UnfitInput: records of another shape, or embeddings that are not finite.
        """
        self._require(x.shape[1:])
        parts = [self.run(x[first : first + BATCH]) for first in range(0, max(len(x), 1), BATCH)]
        flat = np.concatenate([part.flatten(1).double().numpy() for part in parts])
        if not np.isfinite(flat).all():
            raise UnfitInput(self.where, "activations that are not finite", "records of the range it was trained on")
        return flat

    def require(self, dataset: Dataset) -> None:
        """Refuse records that the model cannot read.

        Raises:
            UnfitInput: features of another shape.
        """
        self._require(features(Dataset(dataset.table.slice(0, 0), dataset.manifest)).shape[1:])

    def view(self, manifest: Manifest) -> Callable[[pa.Table], Floats]:
        """The embeddings (N, E) float64 of tables with the columns that a manifest describes."""
        return lambda table: self(features(Dataset(table, manifest)))

    def _require(self, got: tuple[int, ...]) -> None:
        if got != self.shape:
            raise UnfitInput(
                self.where,
                f"records of shape {got}",
                f"{self.shape}, which the model reads",
                "Give a model of these records, or none.",
            )


def load_encoder(config: EncoderConfig, where: str) -> Encoder:
    """Read the model and find the layer.

    Args:
        config: which.
        where: name of its section, for errors.

    Raises:
        UnknownName: no such layer; carries the names that there are.
        UnfitInput: no model folder, or one that `load_model` does not accept.
        Refused: a model that gives other outputs than when it was written.
        Unreachable: an object store does not answer.
    """
    from assay.models.folder import load_model

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(config.model)
        if config.model.startswith("s3://"):
            from assay.data.object_store import download_folder

            folder = download_folder(config.model, Path(scratch) / "model", MAX_BYTES)
        loaded = load_model(folder)
    module, before = _layer(loaded.module.network, config.layer, f"{where}.layer")
    run = _tapped(loaded.module, module, before, f"{where}.layer")
    return Encoder(loaded.digest, config.layer, tuple(loaded.spec.input_shape), run, where)


def _layer(network: torch.nn.Module, name: str, where: str) -> tuple[torch.nn.Module, bool]:
    """The module to listen to, and whether to what it reads (else to what it gives)."""
    from torch import nn

    known = {key: module for key, module in network.named_modules() if key}
    if name:
        if name not in known:
            raise UnknownName(where, name, sorted(known))
        return known[name], False
    linear = [module for module in known.values() if isinstance(module, nn.Linear)]
    if not linear:
        raise UnfitInput(where, "none, of a model without a linear layer", f"one of {sorted(known)}")
    return linear[-1], True


def _tapped(model: torch.nn.Module, module: torch.nn.Module, before: bool, where: str) -> Callable[[Any], torch.Tensor]:
    """The model, run for the sake of one module."""
    import torch

    def run(x: Any) -> torch.Tensor:
        heard: list[torch.Tensor] = []
        if before:
            handle = module.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
        else:
            handle = module.register_forward_hook(lambda _, __, made: heard.append(made))
        try:
            with torch.no_grad():
                model(torch.from_numpy(np.ascontiguousarray(x)))
        finally:
            handle.remove()
        if len(heard) != 1 or not isinstance(heard[0], torch.Tensor) or len(heard[0]) != len(x):
            raise UnfitInput(where, "no tensor of one entry a record", "a layer that gives one")
        return heard[0]

    return run
