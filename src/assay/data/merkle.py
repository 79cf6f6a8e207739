"""The Merkle tree over blocks of 64 rows that names the records of a dataset.

A block's bytes are its fixed-width columns in schema order (a byte of validity per row, then the values, little
endian, null slots zero), then its text columns (validity, the lengths as int32, the UTF-8 bytes). Tensor columns hold
no nulls and carry no validity. Leaves are SHA-256(0x00 | block), nodes SHA-256(0x01 | left | right), split as in
RFC 6962 at the largest power of two below the number of leaves, so that no two tables share a root by padding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.errors import UnfitInput

BLOCK_ROWS = 64

__all__ = ["BLOCK_ROWS", "block_digests", "merkle_root", "row_digests"]

Bytes = npt.NDArray[np.uint8]


def block_digests(table: pa.Table, rows: int = BLOCK_ROWS) -> list[bytes]:
    """The leaf of every block of ``rows`` rows, in order; the last block may be shorter."""
    fixed, texts = _encode(table)
    return [
        hashlib.sha256(b"\0" + b"".join(_block(fixed, texts, start, min(start + rows, table.num_rows)))).digest()
        for start in range(0, table.num_rows, rows)
    ]


def row_digests(table: pa.Table, salt: bytes = b"") -> list[bytes]:
    """SHA-256 of the salt and one record as typed by the schema, for every record."""
    fixed, texts = _encode(table)
    return [
        hashlib.sha256(salt + b"".join(_block(fixed, texts, row, row + 1))).digest() for row in range(table.num_rows)
    ]


def merkle_root(leaves: list[bytes]) -> bytes:
    """Root of the tree over the leaves; of none, SHA-256 of nothing (RFC 6962, section 2.1)."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + merkle_root(leaves[:split]) + merkle_root(leaves[split:])).digest()


def _block(
    fixed: list[Bytes], texts: list[tuple[Bytes, Bytes, npt.NDArray[np.int64], memoryview]], start: int, stop: int
) -> Iterator[bytes | memoryview]:
    for values in fixed:
        yield values[start:stop].tobytes()
    for valid, lengths, offsets, data in texts:
        yield valid[start:stop].tobytes()
        yield lengths[start:stop].tobytes()
        yield data[offsets[start] : offsets[stop]]


def _encode(table: pa.Table) -> tuple[list[Bytes], list[tuple[Bytes, Bytes, npt.NDArray[np.int64], memoryview]]]:
    """Columns as (rows, width) byte matrices, and text columns as validity, lengths, offsets and bytes."""
    fixed: list[Bytes] = []
    texts = []
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = pc.cast(column, column.type.value_type)
        array = column.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0) if array.num_chunks else pa.array([], column.type)
        if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            texts.append(_text(array))
        else:
            fixed.extend(_fixed(name, array))
    return fixed, texts


def _fixed(name: str, array: pa.Array) -> list[Bytes]:
    if isinstance(array.type, pa.FixedShapeTensorType):
        if array.null_count:
            raise UnfitInput(
                f"column {name!r}", f"{array.null_count} nulls", "no null images: their values are undefined"
            )
        return [_bytes(array.to_numpy_ndarray().reshape(len(array), -1))]
    if not (pa.types.is_primitive(array.type) or pa.types.is_boolean(array.type)):
        raise UnfitInput(
            f"column {name!r}", str(array.type), "a number, boolean, timestamp, text or tensor of fixed shape"
        )
    valid = np.asarray(array.is_valid())
    if pa.types.is_temporal(array.type):
        array = array.cast(pa.int64())
    if array.null_count:
        array = pc.fill_null(array, False if pa.types.is_boolean(array.type) else 0)
    values = np.asarray(array)
    return [_bytes(valid.reshape(-1, 1)), _bytes(values.reshape(len(values), -1))]


def _bytes(values: npt.NDArray[np.generic]) -> Bytes:
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(len(values), -1) if little.size else np.empty((len(values), 0), np.uint8)


def _text(array: pa.Array) -> tuple[Bytes, Bytes, npt.NDArray[np.int64], memoryview]:
    valid = np.asarray(array.is_valid()).view(np.uint8)
    filled = pc.fill_null(array.cast(pa.large_string()), "")
    offsets = np.frombuffer(filled.buffers()[1], dtype=np.int64)[filled.offset : filled.offset + len(filled) + 1]
    if not len(offsets):
        offsets = np.zeros(1, dtype=np.int64)
    lengths = np.diff(offsets).astype("<i4").reshape(-1, 1)
    data = filled.buffers()[2]
    return valid, _bytes(lengths), offsets, memoryview(data) if data is not None else memoryview(b"")
