"""IDX, the format of MNIST: images in one file, labels in another, plain or gzip."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.config.ingest import IngestConfig, Limits
from assay.errors import UnfitInput
from assay.ingest.rows import Delivery, Rows, tensor_or_columns
from assay.ingest.unpack import unpacked

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

__all__ = ["Idx"]


@dataclass(frozen=True)
class Idx:
    """Reads ``-ubyte``, ``.idx`` and their ``.gz``: (N, ...) numbers, and (N,) integers from the labels' file.

    Reference: LeCun, Cortes, Burges. The MNIST database: the IDX file format.
    """

    endings: ClassVar[tuple[str, ...]] = ("-ubyte", "-ubyte.gz", ".idx", ".idx.gz")

    def chunks(self, delivery: Delivery, config: IngestConfig) -> Iterator[Rows]:
        """Read a batch, in one piece; see `Reader.chunks`."""
        if delivery.labels is None:
            raise UnfitInput(f"batch {delivery.name}", "no labels", "labels_uri: the IDX file of the labels")
        x, y = _array(delivery.path, config.limits), _array(delivery.labels, config.limits)
        if y.ndim != 1 or y.dtype.kind not in "iu":
            raise UnfitInput(str(delivery.labels), f"{y.dtype} of shape {y.shape}", "(N,) integers")
        if not 0 < len(x) == len(y) <= config.limits.rows:
            raise UnfitInput(
                f"batch {delivery.name}", f"{len(x)} images and {len(y)} labels", f"as many, 1 to {config.limits.rows}"
            )
        columns = tensor_or_columns(delivery.name, x)
        rows = pa.array(np.arange(len(x)), pa.int64())
        yield Rows(pa.table({"row": rows, **columns, "label": pa.array(y.astype(np.int64))}))


def _array(path: Path, limits: Limits) -> npt.NDArray[Any]:
    """The array of one file; its header must account for every byte."""
    data = unpacked(path, limits)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in TYPES or not 1 <= data[3] <= 4:
        raise UnfitInput(str(path), f"a header {data[:4].hex()}", "IDX: 0000, a type, 1 to 4 dimensions")
    head = 4 + 4 * data[3]
    if len(data) < head:
        raise UnfitInput(str(path), f"{len(data)} bytes", f"a header of {head}")
    shape = struct.unpack(f">{data[3]}I", data[4:head])
    dtype = np.dtype(TYPES[data[2]])
    if math.prod(shape) * dtype.itemsize != len(data) - head:
        raise UnfitInput(
            str(path), f"{len(data) - head} bytes", f"those of shape {shape}: {math.prod(shape) * dtype.itemsize}"
        )
    return np.frombuffer(data, dtype, offset=head).reshape(shape)
