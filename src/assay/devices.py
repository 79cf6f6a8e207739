"""The CPU, or a GPU where there is one."""

from __future__ import annotations

import torch

from assay.config.device import Device
from assay.errors import UnfitInput

__all__ = ["device_name", "device_of"]


def device_of(wanted: Device, setting: str) -> torch.device:
    """Where to compute; ``auto`` takes a GPU where there is one.

    Args:
        wanted: as configured.
        setting: its name, as ``train.device``.

    Raises:
        UnfitInput: a GPU is asked for, and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UnfitInput(setting, "cuda, and there is none", "a CUDA device", "Set device: auto or cpu.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """What evidence, a model and the history of records call it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
