"""From a spec to a network: the architecture by name, and the preprocessing in front of it."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn

from assay import catalog
from assay.errors import AssayError, Refused, UnfitInput
from assay.models.spec import Architecture, ModelSpec, Preprocessing

__all__ = ["Classifier", "assemble", "rescale_output"]


class Classifier(nn.Module):
    """A network behind its preprocessing: raw inputs (N, ...) in the box to logits (N, K), or one quantity (N, 1).

    The means and scales are buffers, so they move and change type with the model, but no part of its state dict:
    ``model.json`` holds them, once.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, dimensions: int) -> None:
        super().__init__()
        self.network = network
        shape = (-1, *(1 for _ in range(dimensions - 1)))
        for name in ("mean", "scale"):
            values = torch.tensor(getattr(preprocessing, name), dtype=torch.float32).reshape(shape)
            self.register_buffer(name, values, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of raw inputs (N, ...)."""
        logits: torch.Tensor = self.network((x - self.mean) / self.scale)
        return logits


def assemble(spec: ModelSpec, *, seed: int = 0, allowed: Collection[str] = ()) -> Classifier:
    """The network of a spec, with initial weights drawn from a seed; torch's own generator is left as it was.

    Args:
        spec: architecture, input shape, classes and preprocessing.
        seed: of the initial weights.
        allowed: import paths ``package.module:Class`` that the architecture may name beside the members of ``models``.

    Raises:
        UnknownName: no such member or setting.
        Refused: an import path that is not allowed.
    """
    builder = _builder(spec.architecture, allowed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = builder.build(_plain(spec.input_shape), spec.outputs)
        return Classifier(network, spec.preprocessing, len(spec.input_shape))


def rescale_output(model: Classifier, mean: float, scale: float) -> None:
    """Make a network that gives z give ``mean + scale z``, in place: in its last layer, so that no format knows of it.

    Raises:
        UnfitInput: the last layer is not a dense one.
    """
    last = [module for module in model.network.modules() if not list(module.children())][-1]
    if not isinstance(last, nn.Linear):
        raise UnfitInput("architecture", f"a network that ends in {type(last).__name__}", "one that ends in a Linear")
    with torch.no_grad():
        last.weight.copy_(last.weight.double() * scale)
        last.bias.copy_(last.bias.double() * scale + mean)


def _builder(architecture: Architecture, allowed: Collection[str]) -> Any:
    module, colon, name = architecture.name.partition(":")
    if not colon:
        return catalog.build("models", architecture.name, architecture.settings)
    if architecture.name not in allowed:
        raise Refused(
            "architecture", f"the import path {architecture.name!r}", f"a member of models or one of {sorted(allowed)}"
        )
    try:
        return getattr(importlib.import_module(module), name)(**architecture.settings)
    except (ImportError, AttributeError, TypeError) as error:
        raise AssayError(f"architecture {architecture.name}", f"{type(error).__name__}: {error}") from error


def _plain(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(size) for size in shape)
