"""Finds records by content: an index of fast 64-bit hashes, every hit verified by the record's own digest.

A hash is multilinear over the 64-bit words of the record's encoding (Carter and Wegman 1979), with fixed multipliers:
it is no defence against whoever seeks collisions, and needs to be none, for records that share a hash are told apart by
their SHA-256. Collisions cost time, never a wrong answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.data.merkle import Bytes, Text, encode, row_digests

Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
WORD = 8

__all__ = ["ContentIndex", "content_hashes", "repeated"]


@dataclass(frozen=True)
class ContentIndex:
    """Records by content.

    Fields:
        table: the records; all their columns count, so leave out batch, row and whatever else shall not.
        hashes: of each, sorted; order: the positions that sort them.
    """

    table: pa.Table
    hashes: Hashes
    order: npt.NDArray[np.int64]

    @classmethod
    def of(cls, table: pa.Table) -> ContentIndex:
        """The index of a table."""
        hashes = content_hashes(table)
        order = np.argsort(hashes, kind="stable")
        return cls(table, hashes[order], order)

    def holds(self, other: pa.Table) -> Mask:
        """Which records of another table of the same columns equal one of the index, (M,)."""
        return self.find(other) >= 0

    def find(self, other: pa.Table) -> npt.NDArray[np.int64]:
        """Per record of another table the position of the first equal one in the index, or -1, (M,)."""
        hashes, found = content_hashes(other), np.full(other.num_rows, -1, np.int64)
        low, high = (np.searchsorted(self.hashes, hashes, side) for side in ("left", "right"))
        asked = np.flatnonzero(high > low)
        if not len(asked):
            return found
        mine = np.unique(np.concatenate([self.order[low[at] : high[at]] for at in asked]))
        first: dict[bytes, int] = {}
        for place, digest in zip(mine.tolist(), row_digests(self.table.take(pa.array(mine))), strict=True):
            first.setdefault(digest, place)
        digests = row_digests(other.take(pa.array(asked)))
        found[asked] = [first.get(digest, -1) for digest in digests]
        return found


def content_hashes(table: pa.Table) -> Hashes:
    """A 64-bit hash of every record; equal records of equal columns have equal hashes."""
    fixed, texts = encode(table)
    total: Hashes = np.zeros(table.num_rows, np.uint64)
    rng = np.random.default_rng(0x5EED)
    for column in fixed:
        total += _linear(column, rng)
    for text in texts:
        total += _linear(text[0], rng) + _of_text(text) * rng.integers(1, 2**63, dtype=np.uint64)
    return total


def repeated(table: pa.Table) -> Mask:
    """Which records equal an earlier one, (N,)."""
    again = np.zeros(table.num_rows, np.bool_)
    hashes = content_hashes(table)
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    suspects = np.sort(order[np.append(same, False) | np.append(False, same)]) if len(same) else order[:0]
    seen: set[bytes] = set()
    for place, digest in zip(suspects.tolist(), row_digests(table.take(pa.array(suspects))), strict=True):
        again[place] = digest in seen
        seen.add(digest)
    return again


def _linear(column: Bytes, rng: np.random.Generator) -> Hashes:
    """Sum over words times odd multipliers, modulo 2**64; blocks of rows, so that no copy of the column is made."""
    words = -(-column.shape[1] // WORD)
    multipliers = rng.integers(0, 2**63, size=words, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    total: Hashes = np.zeros(len(column), np.uint64)
    for first in range(0, len(column), 65_536):
        part = column[first : first + 65_536]
        padded = np.zeros((len(part), words * WORD), np.uint8)
        padded[:, : part.shape[1]] = part
        total[first : first + len(part)] = _mixed(padded.view("<u8")) @ multipliers
    return total


def _mixed(words: npt.NDArray[np.uint64]) -> Hashes:
    """Spreads each word's bits, so that small integers and floats with few digits do not cancel (Steele 2014)."""
    mixed = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _of_text(text: Text) -> Hashes:
    """A hash of every cell of a text column, each distinct text hashed once."""
    from pandas.util import hash_array

    _, _, offsets, data = text
    cells = pa.Array.from_buffers(
        pa.large_binary(),
        len(offsets) - 1,
        [None, pa.py_buffer(offsets.astype(np.int64).tobytes()), pa.py_buffer(data)],
    ).dictionary_encode()
    known = np.array(cells.dictionary.to_pylist(), dtype=object)
    hashes: Hashes = hash_array(known, categorize=False) if len(known) else np.zeros(0, np.uint64)
    return np.asarray(np.take(hashes, cells.indices.to_numpy()), dtype=np.uint64)
