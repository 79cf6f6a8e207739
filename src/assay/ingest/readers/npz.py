"""NumPy archives: arrays ``x`` and ``y``, never unpickled, never larger than the archive says."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.config.ingest import IngestConfig, Limits
from assay.errors import UnfitInput
from assay.ingest.columns import require_columns
from assay.ingest.rows import Delivery, Rows, tensor_or_columns
from assay.ingest.unpack import require_size

NAMES = ("x.npy", "y.npy")

__all__ = ["Npz"]


@dataclass(frozen=True)
class Npz:
    """Reads ``.npz`` with ``x`` (N, ...) numbers and ``y`` (N,) integers or text; for a regression, numbers."""

    endings: ClassVar[tuple[str, ...]] = (".npz",)

    def chunks(self, delivery: Delivery, config: IngestConfig) -> Iterator[Rows]:
        """Read a batch, in one piece; see `Reader.chunks`."""
        x, y = _arrays(delivery.path, config.limits)
        quantity = config.task == "regression"
        if y.ndim != 1 or y.dtype.kind not in ("iuf" if quantity else "iubU"):
            need = "(N,) numbers" if quantity else "(N,) integers or text"
            raise UnfitInput(f"{delivery.path}: y", f"{y.dtype} of shape {y.shape}", need)
        if quantity and not np.isfinite(y).all():
            raise UnfitInput(f"{delivery.path}: y", "values that are not finite", "finite numbers")
        if not 0 < len(x) == len(y) <= config.limits.rows:
            raise UnfitInput(str(delivery.path), f"{len(x)} x and {len(y)} y", f"as many, 1 to {config.limits.rows}")
        columns = tensor_or_columns(delivery.name, x)
        require_columns([*columns, config.label], config, delivery.name)
        labels = pa.array(y.astype(np.float64 if quantity else np.str_ if y.dtype.kind in "bU" else np.int64))
        yield Rows(pa.table({"row": pa.array(np.arange(len(x)), pa.int64()), **columns, "label": labels}))


def _arrays(path: Path, limits: Limits) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    require_size(path, limits)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if sorted(names) != sorted(NAMES):
                raise UnfitInput(str(path), f"arrays {names[:10]}", "exactly x and y")
            size = sum(entry.file_size for entry in archive.infolist())
            if size > limits.file_bytes:
                raise UnfitInput(str(path), f"{size} bytes unpacked", f"at most {limits.file_bytes}")
            arrays = []
            for name in NAMES:
                with archive.open(name) as stream:
                    arrays.append(_array(stream, archive.getinfo(name).file_size, f"{path}: {name}"))
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise UnfitInput(str(path), f"{type(error).__name__}: {error}", "an archive that numpy.savez wrote") from error
    return arrays[0], arrays[1]


def _array(stream: IO[bytes], size: int, where: str) -> npt.NDArray[Any]:
    """One array, whose header must account for every byte before anything is reserved for it."""
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if dtype.kind not in "iufbU":
        raise UnfitInput(where, str(dtype), "numbers or text; objects are never unpickled")
    if math.prod(shape) * dtype.itemsize != size - stream.tell():
        raise UnfitInput(where, f"a header of shape {shape} over {size} bytes", "one that fits its bytes")
    flat = np.frombuffer(stream.read(), dtype=dtype)
    return flat.reshape(shape, order="F" if fortran else "C")
