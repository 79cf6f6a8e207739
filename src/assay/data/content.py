"""Finds records by content: an index of fast 64-bit hashes, every hit verified by the record's own digest.

A hash is multilinear over the 64-bit words of the record's encoding (Carter and Wegman 1979), with fixed multipliers:
it is no defence against whoever seeks collisions, and needs to be none, for records that share a hash are told apart by
their SHA-256. Collisions cost time, never a wrong answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.data.merkle import Bytes, Text, encode, row_digests

Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
WORD = 8

__all__ = ["ContentIndex", "Repeats", "content_hashes", "repeated"]


@dataclass(frozen=True)
class ContentIndex:
    """Records by content; 48 bytes each, whatever they hold.

    Fields:
        digests: SHA-256 of each, (N, 32).
        hashes: of each, sorted; order: the positions that sort them.
    """

    digests: npt.NDArray[np.uint8]
    hashes: Hashes
    order: npt.NDArray[np.int64]

    @classmethod
    def of(cls, *tables: pa.Table) -> ContentIndex:
        """The index of tables, one after the other; all columns count: leave out batch, row and what else shall not."""
        return cls.gathered(tables)

    @classmethod
    def gathered(cls, tables: Iterable[pa.Table]) -> ContentIndex:
        """The index of tables that are there one at a time."""
        digests, parts = bytearray(), [np.zeros(0, np.uint64)]
        for table in tables:
            digests += b"".join(row_digests(table))
            parts.append(content_hashes(table))
        hashes = np.concatenate(parts)
        order = np.argsort(hashes, kind="stable")
        return cls(np.frombuffer(digests, np.uint8).reshape(-1, 32), hashes[order], order)

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
        for place in mine.tolist():
            first.setdefault(self.digests[place].tobytes(), place)
        digests = row_digests(other.take(pa.array(asked)))
        found[asked] = [first.get(digest, -1) for digest in digests]
        return found


class Repeats:
    """Which records equal an earlier one, of tables that are there one at a time.

    First every table is added; then, where hashes are shared, the same tables pass once more.
    """

    def __init__(self) -> None:
        self._parts: list[Hashes] = [np.zeros(0, np.uint64)]

    def add(self, table: pa.Table) -> None:
        """Take in the records that follow; all columns count."""
        self._parts.append(content_hashes(table))

    def suspects(self) -> Mask:
        """Which records share their hash with another, (N,)."""
        hashes = np.concatenate(self._parts)
        ranked = np.sort(hashes)
        shared = np.unique(ranked[1:][ranked[1:] == ranked[:-1]])
        if not len(shared):
            return np.zeros(len(hashes), np.bool_)
        near = np.minimum(np.searchsorted(shared, hashes), len(shared) - 1)
        return np.asarray(shared[near] == hashes, dtype=np.bool_)

    def settled(self, tables: Iterable[pa.Table]) -> Mask:
        """Which records equal an earlier one, (N,); the same tables, read where hashes are shared."""
        suspects = self.suspects()
        again = np.zeros(len(suspects), np.bool_)
        if not suspects.any():
            return again
        first, seen = 0, set[bytes]()
        for table in tables:
            places = np.flatnonzero(suspects[first : first + table.num_rows])
            for place, digest in zip(places.tolist(), row_digests(table.take(pa.array(places))), strict=True):
                again[first + place] = digest in seen
                seen.add(digest)
            first += table.num_rows
        return again


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
    repeats = Repeats()
    repeats.add(table)
    return repeats.settled([table])


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
