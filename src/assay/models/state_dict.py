"""A state dict that ``torch.save`` wrote: tensors by name, read without running anything.

The format is a zip archive of raw numbers beside a pickle that says which tensor lies where. That pickle is first
looked through, opcode by opcode, without executing any: it may name what tensors are made of and nothing else. Then it
goes to torch's own restricted reader, ``weights_only``, which refuses everything else once more. Archives before torch
1.6, and whole modules, are refused.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

import torch

from assay.errors import Refused, UnfitInput

ENDINGS = (".pt", ".pth")
MAX_ENTRIES, MAX_INDEX_BYTES = 20_000, 2**24
TYPES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
PARTS = frozenset(
    {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"}
    | {f"torch {kind}Storage" for kind in TYPES}
)
OTHERS = frozenset({"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"})

__all__ = ["ENDINGS", "read_state_dict"]


def read_state_dict(path: Path, size_bytes: int) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, on the CPU, each with memory of its own.

    Args:
        path: of the archive.
        size_bytes: of all tensors of the architecture together; an archive of more than that and its index is not read.

    Raises:
        Refused: an archive whose index names anything but tensors.
        UnfitInput: no such archive, one that is broken, compressed or too large, or no state dict.
    """
    _require_tensors_alone(path, _index(path, size_bytes))
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile index can make the reader raise anything
        raise UnfitInput(str(path), f"{type(error).__name__}: {error}"[:300], "a state dict of torch.save") from error
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided
        for name, value in found.items()
    ):
        got = f"{type(found).__name__} of {sorted(map(str, found))[:5]}" if isinstance(found, dict) else "no dict"
        raise UnfitInput(str(path), got, "tensors by name", "Save model.state_dict(), not a checkpoint around it.")
    return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in found.items()}


def _index(path: Path, size_bytes: int) -> bytes:
    """The pickle of the archive, once its entries are known to be few, plain and no larger than they may be."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries if entry.filename.split("/")[-1] == "data.pkl"]
            size = sum(entry.file_size for entry in entries)
            if len(entries) > MAX_ENTRIES or size > size_bytes + MAX_INDEX_BYTES:
                raise UnfitInput(str(path), f"{len(entries)} entries, {size} bytes", f"the architecture's {size_bytes}")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or len(names) != 1:
                raise UnfitInput(str(path), "compressed entries, or no one data.pkl", "what torch.save writes")
            return archive.read(names[0])
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        need = "an archive that torch.save wrote, since torch 1.6"
        raise UnfitInput(str(path), f"{type(error).__name__}: {error}"[:300], need) from error


def _require_tensors_alone(path: Path, index: bytes) -> None:
    """Nothing is named in the index but what tensors are made of."""
    try:
        for opcode, argument, _ in pickletools.genops(index):
            if opcode.name in OTHERS or (opcode.name == "GLOBAL" and argument not in PARTS):
                got = f"{opcode.name.lower()} {argument or ''}".strip()[:200]
                fix = "Save model.state_dict() as safetensors, or measure the model as a black box."
                raise Refused(str(path), got, "tensors alone; nothing in a file is ever run", fix)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise UnfitInput(str(path), f"{type(error).__name__}: {error}"[:300], "a state dict of torch.save") from error
