"""What an interrupted training needs to go on and end in the same bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from assay.data.files import write_file

__all__ = ["Checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """One file: the SHA-256 of the rest, then weights, Adam's state and the loss of every epoch so far.

    A file that is absent, half a file, or changed counts as none: training then begins again and ends in the same
    bytes, only later. Random numbers need no place here, because every epoch draws from generators of its own.
    """

    path: Path

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, losses: list[float]) -> None:
        """Replace the file, whole or not at all."""
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": tensor for name, tensor in state.items()}
        tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
        data = save_safetensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        write_file(self.path, hashlib.sha256(data).digest() + data)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
        """Bring model and optimizer to where the file left them; returns the losses of the epochs behind it."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return []
        data = content[32:]
        if hashlib.sha256(data).digest() != content[:32]:
            return []
        tensors = load_safetensors(data)
        losses = tensors.pop("losses")
        adam: dict[int, dict[str, torch.Tensor]] = {}
        weights: dict[str, torch.Tensor] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "model":
                weights[rest] = tensor
            else:
                index, _, key = rest.partition(".")
                adam.setdefault(int(index), {})[key] = tensor
        model.load_state_dict(weights)
        optimizer.load_state_dict({"state": adam, "param_groups": optimizer.state_dict()["param_groups"]})
        return [float(loss) for loss in losses]

    def remove(self) -> None:
        """Forget it: the model is written."""
        self.path.unlink(missing_ok=True)
