"""Proof that a record is in a dataset: its block of 64 rows, and the path from that block to the dataset's root.

Whoever knows the digest of a manifest, from the ledger or from signed evidence, needs neither the dataset nor whoever
holds it to believe the proof. It shows the records of the block, and nothing of the others.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from assay import canonical
from assay.data.dataset import KEYS, Dataset, column_of
from assay.data.manifest import Manifest
from assay.data.merkle import audit_path, block_digests, path_root, row_digests
from assay.data.records import RecordId
from assay.errors import Refused, UnfitInput

SCHEMA = "assay.proof"
UNCOUNTED = (*KEYS, "weight")

__all__ = ["Proof", "prove", "read_proof", "record_digest"]


@dataclass(frozen=True)
class Proof:
    """Membership of one record.

    Fields:
        record: id.
        manifest: of the dataset.
        block: the rows of its block, in canonical order, as the manifest types them.
        place: of the block among all.
        path: nodes from the block to the root.
    """

    record: RecordId
    manifest: Manifest
    block: pa.Table
    place: int
    path: tuple[bytes, ...]

    def verify(self, digest: str = "") -> dict[str, Any]:
        """What the proof shows.

        Args:
            digest: of the manifest that is trusted; empty takes the proof's own, which then has to be compared.

        Returns:
            ``record``, its ``digest``, ``dataset`` (manifest and content digest), ``block``, ``blocks``.

        Raises:
            Refused: another manifest, a block that does not lead to its root, or a record that is not in the block.
        """
        content = self.manifest.content
        if digest and self.manifest.digest != digest:
            raise Refused("proof", f"one for dataset {self.manifest.digest}", digest)
        size, blocks = content.block_rows, -(-content.records // content.block_rows)
        rows = min(size, content.records - self.place * size)
        if not 0 <= self.place < blocks or self.block.num_rows != rows:
            raise Refused("proof", f"block {self.place} of {self.block.num_rows} rows", f"one of {blocks} blocks")
        if tuple(column_of(column) for column in self.block.schema) != content.columns:
            raise Refused("proof", f"columns {self.block.schema.names}", "those of the manifest, in their types")
        root = path_root(block_digests(self.block, size)[0], self.place, blocks, list(self.path)).hex()
        if root != content.merkle_root:
            raise Refused("proof", f"a block that leads to root {root[:12]}", content.merkle_root[:12])
        at = _position(self.block, self.record)
        if at is None:
            raise Refused(f"record {self.record}", "no such record in its block", "a record of the dataset")
        return {
            "record": str(self.record),
            "digest": record_digest(self.block.slice(at, 1)),
            "dataset": {"digest": self.manifest.digest, "content_digest": self.manifest.content_digest},
            "block": self.place,
            "blocks": blocks,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data for canonical JSON."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.block.schema) as writer:
            writer.write_table(self.block)
        return {
            "schema": f"{SCHEMA}/v1",
            "record": str(self.record),
            "manifest": self.manifest.to_json(),
            "place": self.place,
            "block": base64.b64encode(sink.getvalue()).decode(),
            "path": [node.hex() for node in self.path],
        }


def prove(dataset: Dataset, record: RecordId) -> Proof:
    """The proof that a dataset holds a record.

    Raises:
        Refused: it does not.
    """
    at = _position(dataset.table, record)
    if at is None:
        raise Refused(f"record {record}", f"not in dataset {dataset.manifest.digest[:12]}", "one of its records")
    size = dataset.manifest.content.block_rows
    place = at // size
    path = audit_path(block_digests(dataset.table, size), place)
    block = dataset.table.slice(place * size, size)
    block = block.set_column(0, "batch", block["batch"].cast(pa.string()))  # without the names of other batches
    return Proof(record, dataset.manifest, block, place, tuple(path))


def read_proof(path: Path | str) -> Proof:
    """A proof from its file, not yet verified.

    Raises:
        UnfitInput: no proof.
    """
    document = canonical.require_schema(canonical.read(path), SCHEMA, str(path))
    try:
        with pa.ipc.open_stream(base64.b64decode(document["block"], validate=True)) as stream:
            block = stream.read_all()
            block.validate(full=True)
        nodes = tuple(bytes.fromhex(node) for node in document["path"])
        manifest = Manifest.from_json(document["manifest"], str(path))
        return Proof(RecordId.parse(document["record"]), manifest, block, int(document["place"]), nodes)
    except (KeyError, TypeError, ValueError, OSError, binascii.Error, pa.ArrowException) as error:
        raise UnfitInput(str(path), f"{type(error).__name__}: {error}", f"an {SCHEMA}/v1 document") from error


def record_digest(row: pa.Table) -> str:
    """SHA-256 of one record's features and label as typed by the schema, whatever its id and weight."""
    return row_digests(row.drop_columns([name for name in UNCOUNTED if name in row.column_names]))[0].hex()


def _position(table: pa.Table, record: RecordId) -> int | None:
    """Where a record is in a table in canonical order, or None."""
    if table["row"].null_count:
        return None
    rows = np.flatnonzero(table["row"].to_numpy() == record.row)
    name = f"{record.source}/{record.batch}"
    return next((int(at) for at in rows if table["batch"][int(at)].as_py() == name), None)
