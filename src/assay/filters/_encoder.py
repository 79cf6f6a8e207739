"""A given model as the encoder: its activations below the classes, instead of a proxy's. Torch is imported here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from assay.errors import UnfitInput
from assay.filters import Floats
from assay.filters.features import Inputs
from assay.models.folder import LoadedModel, load_model

PART = 1024

__all__ = ["Encoder"]


@dataclass(frozen=True)
class Encoder:
    """What goes into the last dense layer of a model.

    That layer, as with the proxy: what a network learned about a trigger is read by the layer that says the classes.
    """

    model: LoadedModel

    @classmethod
    def load(cls, path: Path | str) -> Encoder:
        """From a model folder.

        Raises:
            UnfitInput: a broken folder, or a model without a dense layer.
            Refused: a model that does not replay its golden outputs.
        """
        made = cls(load_model(path))
        made._last()
        return made

    @property
    def digest(self) -> str:
        """Of the model folder."""
        return self.model.digest

    @torch.no_grad()
    def __call__(self, inputs: Inputs) -> Floats:
        """Activations (N, D) float64 of raw inputs (N, *input_shape).

        Raises:
            UnfitInput: inputs of another shape, or activations that are not finite.
        """
        need = tuple(self.model.spec.input_shape)
        if inputs.shape[1:] != need:
            raise UnfitInput(f"encoder {self.digest[:12]}", f"inputs of shape {inputs.shape[1:]}", f"{need}, its own")
        caught: list[torch.Tensor] = []
        hook = self._last().register_forward_pre_hook(lambda _, given: caught.append(given[0].flatten(1)))
        try:
            for part in torch.split(torch.from_numpy(np.ascontiguousarray(inputs)), PART):
                self.model.module(part)
        finally:
            hook.remove()
        found = torch.cat(caught).double().numpy() if caught else np.empty((0, self._last().in_features))
        if not math.isfinite(float(found.sum())):
            raise UnfitInput(f"encoder {self.digest[:12]}", "activations that are not finite", "finite numbers")
        return found

    def _last(self) -> nn.Linear:
        dense = [layer for layer in self.model.module.modules() if isinstance(layer, nn.Linear)]
        if not dense:
            raise UnfitInput(f"encoder {self.digest[:12]}", "no dense layer", "a model whose last layer is dense")
        return dense[-1]
