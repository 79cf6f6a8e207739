"""A network as what bounds can be drawn through: affine maps and ReLU, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from assay.errors import UnfitInput
from assay.models.assemble import Classifier

__all__ = ["Affine", "Convolution", "Dense", "Layer", "Relu", "Scaling", "layers_of"]

Shape = tuple[int, ...]


class Affine(Protocol):
    """h -> W h + b, between two shapes."""

    into: Shape
    out: Shape

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        """(N, *into) to (N, *out)."""
        ...

    def spread(self, radius: torch.Tensor) -> torch.Tensor:
        """How far the output moves at most when each input moves by its radius: |W| radius."""
        ...

    def back(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Linear functions (M, *out) of the output as functions of the input: (M, *into), and a constant (M,)."""
        ...


@dataclass(frozen=True)
class Scaling:
    """(h - mean) / scale, element by element."""

    mean: torch.Tensor
    scale: torch.Tensor
    into: Shape

    @property
    def out(self) -> Shape:
        """The same shape."""
        return self.into

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        """The map."""
        return (h - self.mean) / self.scale

    def spread(self, radius: torch.Tensor) -> torch.Tensor:
        """|W| radius."""
        return radius / self.scale

    def back(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Transposed."""
        found = rows / self.scale
        return found, -(found * self.mean).flatten(1).sum(1)


@dataclass(frozen=True)
class Dense:
    """A fully connected layer; flattens what comes."""

    weight: torch.Tensor
    bias: torch.Tensor
    into: Shape

    @property
    def out(self) -> Shape:
        """(width,)."""
        return (len(self.weight),)

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        """The map."""
        return functional.linear(h.flatten(1), self.weight, self.bias)

    def spread(self, radius: torch.Tensor) -> torch.Tensor:
        """|W| radius."""
        return functional.linear(radius.flatten(1), self.weight.abs())

    def back(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Transposed."""
        return (rows @ self.weight).reshape(-1, *self.into), rows @ self.bias


@dataclass(frozen=True)
class Convolution:
    """A two-dimensional convolution without groups or dilation, padded with zeros."""

    weight: torch.Tensor
    bias: torch.Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    into: Shape

    @property
    def out(self) -> Shape:
        """(channels, height, width)."""
        kernel = self.weight.shape[2:]
        sides = (
            (side + 2 * pad - size) // step + 1
            for side, pad, size, step in zip(self.into[1:], self.padding, kernel, self.stride, strict=True)
        )
        return (len(self.weight), *sides)

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        """The map."""
        return functional.conv2d(h, self.weight, self.bias, self.stride, self.padding)

    def spread(self, radius: torch.Tensor) -> torch.Tensor:
        """|W| radius."""
        return functional.conv2d(radius, self.weight.abs(), None, self.stride, self.padding)

    def back(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Transposed."""
        kernel = self.weight.shape[2:]
        short = [
            side + 2 * pad - size - step * (made - 1)
            for side, pad, size, step, made in zip(
                self.into[1:], self.padding, kernel, self.stride, self.out[1:], strict=True
            )
        ]
        found = functional.conv_transpose2d(rows, self.weight, None, self.stride, self.padding, output_padding=short)
        return found, (rows.sum((2, 3)) * self.bias).sum(1)


@dataclass(frozen=True)
class Relu:
    """max(h, 0), element by element."""


Layer = Scaling | Dense | Convolution | Relu


def layers_of(model: nn.Module, shape: Shape) -> list[Layer]:
    """The layers of a network, preprocessing first, in float64; each affine one knows the shape it takes.

    Args:
        model: a `Classifier`, or a network of dense layers, plain convolutions, ReLU, flattening and their sequences.
        shape: of one input.

    Raises:
        UnfitInput: a layer of another kind.
    """
    found: list[Layer] = []
    network = model
    if isinstance(model, Classifier):
        found.append(Scaling(model.mean.double(), model.scale.double(), shape))
        network = model.network
    for module in _flat(network):
        if isinstance(module, nn.ReLU):
            found.append(Relu())
            continue
        found.append(_affine(module, shape))
        shape = found[-1].out  # type: ignore[union-attr]  # it is affine
    return found


def _flat(network: nn.Module) -> list[nn.Module]:
    if isinstance(network, nn.Sequential):
        return [module for child in network for module in _flat(child)]
    return [] if isinstance(network, nn.Flatten | nn.Identity) else [network]


def _affine(module: nn.Module, shape: Shape) -> Layer:
    if isinstance(module, nn.Linear) and module.in_features == math.prod(shape):
        weight = module.weight.detach().double()
        return Dense(weight, _bias(module.bias, weight), shape)
    if isinstance(module, nn.Conv2d) and len(shape) == 3 and _plain(module):
        weight = module.weight.detach().double()
        padding = tuple(int(side) for side in module.padding)
        return Convolution(weight, _bias(module.bias, weight), _two(module.stride), _two(padding), shape)
    kind = type(module).__name__
    raise UnfitInput("certificates", f"a layer {kind}", "dense layers, plain convolutions and ReLU", "Use smoothing.")


def _plain(module: nn.Conv2d) -> bool:
    flat = module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    return flat and not isinstance(module.padding, str)


def _two(pair: tuple[int, ...]) -> tuple[int, int]:
    return int(pair[0]), int(pair[1])


def _bias(bias: torch.Tensor | None, weight: torch.Tensor) -> torch.Tensor:
    return bias.detach().double() if bias is not None else weight.new_zeros(len(weight))
