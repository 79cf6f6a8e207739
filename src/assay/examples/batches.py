"""How an example becomes files: Parquet batches of named sources, and a configuration beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from assay.data.files import write_file
from assay.data.records import RecordId

TRUSTED = "in-house"
VENDORS = ("vendor-a", "vendor-b", "vendor-c")

__all__ = ["TRUSTED", "VENDORS", "Planted", "deal", "write_batch", "write_config"]

Planted = tuple[RecordId, ...]


def deal(records: int, trusted: int, generator: np.random.Generator) -> dict[str, npt.NDArray[np.int64]]:
    """Deal the records at random: ``trusted`` to the trusted source, the rest evenly to the vendors."""
    order = generator.permutation(records)
    parts = np.array_split(order[trusted:], len(VENDORS))
    return {TRUSTED: order[:trusted], **dict(zip(VENDORS, parts, strict=True))}


def write_batch(
    folder: Path, source: str, batch: str, columns: Mapping[str, pa.Array], labels: npt.NDArray[np.int64]
) -> Path:
    """One Parquet batch of a source; returns its path."""
    path = folder / source / f"{batch}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({**columns, "label": pa.array(labels)}), sink)
    write_file(path, sink.getvalue().to_pybytes())
    return path


def write_config(folder: Path, batch: str, sections: dict[str, Any]) -> Path:
    """``assay.yaml`` over the batches of all sources; returns its path."""
    sources = [
        {"name": name, "batch": batch, "uri": f"{name}/{batch}.parquet"}
        | ({"trust": "trusted"} if name == TRUSTED else {})
        for name in (*VENDORS, TRUSTED)
    ]
    path = folder / "assay.yaml"
    document = {"schema": "assay.config/v1", "sources": sources, **sections}
    write_file(path, yaml.safe_dump(document, sort_keys=False, width=120).encode())
    return path
