"""The Merkle tree over blocks of 64 rows that names the records of a dataset.

A block's bytes are its fixed-width columns in schema order (a byte of validity per row, then the values, little
endian, null slots zero), then its text columns (validity, the lengths as int32, the UTF-8 bytes). Tensor columns hold
no nulls and carry no validity. Leaves are SHA-256(0x00 | block), nodes SHA-256(0x01 | left | right), split as in
RFC 6962 at the largest power of two below the number of leaves, so that no two tables share a root by padding.

Fixed-width columns of many blocks are first laid side by side, so that each block is hashed in one piece.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.errors import Refused, UnfitInput

BLOCK_ROWS = 64
_STRETCH_BYTES = 2**20  # of fixed-width cells laid side by side at once: they stay in the cache

__all__ = ["BLOCK_ROWS", "audit_path", "block_digests", "encode", "merkle_root", "path_root", "row_digests"]

Bytes = npt.NDArray[np.uint8]
Text = tuple[Bytes, Bytes, npt.NDArray[Any], memoryview]


def block_digests(table: pa.Table, rows: int = BLOCK_ROWS) -> list[bytes]:
    """The leaf of every block of ``rows`` rows, in order; the last block may be shorter."""
    return _digests(table, rows, b"\0")


def row_digests(table: pa.Table, salt: bytes = b"") -> list[bytes]:
    """SHA-256 of the salt and one record as typed by the schema, for every record."""
    return _digests(table, 1, salt)


def merkle_root(leaves: list[bytes]) -> bytes:
    """Root of the tree over the leaves; of none, SHA-256 of nothing (RFC 6962, section 2.1)."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    sha256, nodes = hashlib.sha256, leaves
    while len(nodes) > 1:  # level by level, the odd one going up as it is: the same tree
        odd = nodes[-1:] if len(nodes) % 2 else []
        pairs = zip(nodes[::2], nodes[1::2], strict=False)
        nodes = [sha256(b"\1" + left + right).digest() for left, right in pairs] + odd
    return nodes[0]


def audit_path(leaves: list[bytes], place: int) -> list[bytes]:
    """The nodes that lead from the leaf at a place to the root, from the leaf upwards (RFC 6962, section 2.1.1)."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if place < split:
        return [*audit_path(leaves[:split], place), merkle_root(leaves[split:])]
    return [*audit_path(leaves[split:], place - split), merkle_root(leaves[:split])]


def path_root(leaf: bytes, place: int, count: int, path: list[bytes]) -> bytes:
    """The root that an audit path leads to from the leaf at a place among ``count`` (RFC 9162, section 2.1.3.2).

    Raises:
        Refused: a path of another length than the tree has there.
    """
    node, here, last = leaf, place, count - 1
    for sibling in path:
        if last == 0:
            raise Refused("proof", f"{len(path)} nodes", f"those of leaf {place} of {count}")
        if here & 1 or here == last:
            node = hashlib.sha256(b"\1" + sibling + node).digest()
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\1" + node + sibling).digest()
        here, last = here >> 1, last >> 1
    if last or not 0 <= place < count:
        raise Refused("proof", f"{len(path)} nodes", f"those of leaf {place} of {count}")
    return node


def _digests(table: pa.Table, rows: int, prefix: bytes) -> list[bytes]:
    """SHA-256 of the prefix and the bytes of every ``rows`` rows."""
    if not table.num_columns:
        return []
    fixed, texts = encode(table)
    whole = table.num_rows // rows * rows
    stretch = max(1, _STRETCH_BYTES // max(1, sum(column.shape[1] for column in fixed) * rows)) * rows
    found: list[bytes] = []
    for first in range(0, whole, stretch):
        found += _stretch(fixed, texts, first, min(first + stretch, whole), rows, prefix)
    if whole < table.num_rows:
        found += _stretch(fixed, texts, whole, table.num_rows, table.num_rows - whole, prefix)
    return found


def _stretch(
    fixed: Sequence[Bytes], texts: Sequence[Text], first: int, last: int, rows: int, prefix: bytes
) -> list[bytes]:
    """SHA-256 of the prefix and every ``rows`` rows of the rows ``first`` to ``last``, which they divide."""
    sha256 = hashlib.sha256
    heads = _side_by_side(fixed, first, last, rows, prefix)
    if not texts:
        return [sha256(block).digest() for block in heads]
    pieces = [heads]
    for valid, lengths, offsets, data in texts:
        pieces.append(_side_by_side([valid, lengths], first, last, rows))
        pieces.append(_slices(data, offsets[first : last + 1 : rows].tolist()))
    return [sha256(b"".join(block)).digest() for block in zip(*pieces, strict=True)]


def _side_by_side(
    columns: Sequence[Bytes], first: int, last: int, rows: int, prefix: bytes = b""
) -> Iterable[memoryview]:
    """For every block the prefix, the cells of its first column, then those of its second, and so on."""
    count = (last - first) // rows
    widths = [column.shape[1] * rows for column in columns]
    size = len(prefix) + sum(widths)
    side = np.empty((count, size), np.uint8)
    side[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    place = len(prefix)
    for column, width in zip(columns, widths, strict=True):
        side[:, place : place + width] = column[first:last].reshape(count, width)
        place += width
    view = side.reshape(-1).data
    return _slices(view, range(0, count * size + 1, size)) if size else [view] * count


def _slices(data: memoryview, ends: Iterable[int]) -> Iterator[memoryview]:
    return (data[start:stop] for start, stop in itertools.pairwise(ends))


def encode(table: pa.Table) -> tuple[list[Bytes], list[Text]]:
    """Columns as (rows, width) byte matrices, and text columns as validity, lengths, offsets and bytes."""
    fixed: list[Bytes] = []
    texts = []
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = pc.cast(column, column.type.value_type)
        array = _whole(column)
        if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            texts.append(_text(array))
        else:
            fixed.extend(_fixed(name, array))
    return fixed, texts


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece; one that is in one piece is not copied."""
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    if not isinstance(joined, pa.ChunkedArray):
        return joined
    return joined.chunk(0) if joined.num_chunks else pa.array([], column.type)


def _fixed(name: str, array: pa.Array) -> list[Bytes]:
    if isinstance(array.type, pa.FixedShapeTensorType):
        if array.null_count:
            raise UnfitInput(
                f"column {name!r}", f"{array.null_count} nulls", "no null images: their values are undefined"
            )
        return [_bytes(array.to_numpy_ndarray())]
    if not (pa.types.is_primitive(array.type) or pa.types.is_boolean(array.type)):
        raise UnfitInput(
            f"column {name!r}", str(array.type), "a number, boolean, timestamp, text or tensor of fixed shape"
        )
    valid = _valid(array)
    if pa.types.is_temporal(array.type):
        array = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64()).cast(pa.int64())
    if array.null_count:
        array = pc.fill_null(array, False if pa.types.is_boolean(array.type) else 0)
    return [valid, _bytes(np.asarray(array))]


def _valid(array: pa.Array) -> Bytes:
    """A byte of validity per row, (N, 1)."""
    if not array.null_count:
        return np.broadcast_to(np.uint8(1), (len(array), 1))
    return np.asarray(array.is_valid()).view(np.uint8).reshape(-1, 1)


def _bytes(values: npt.NDArray[np.generic]) -> Bytes:
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    width = values.dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
    return little.reshape(-1).view(np.uint8).reshape(len(values), width)


def _text(array: pa.Array) -> Text:
    filled = pc.fill_null(array, "") if array.null_count else array
    width = np.int64 if pa.types.is_large_string(filled.type) else np.int32
    _, starts, data = filled.buffers()
    offsets = np.frombuffer(starts or b"", width)[filled.offset : filled.offset + len(filled) + 1]
    if not len(offsets):
        offsets = np.zeros(1, width)
    return _valid(array), _bytes(np.diff(offsets).astype("<i4", copy=False)), offsets, memoryview(data or b"")
