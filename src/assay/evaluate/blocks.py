"""Fixed blocks of records: the unit of work, of randomness and of merging.

Block k holds records [256 k, 256 (k + 1)). Attacks on it draw from generators seeded by (seed, threat, attack, restart,
k) alone, never by who computes it or when, so that a machine that does all blocks and eight that share them find the
same.
"""

from __future__ import annotations

BLOCK_RECORDS = 256

__all__ = ["BLOCK_RECORDS", "block_count", "block_rows"]


def block_count(records: int, size: int = BLOCK_RECORDS) -> int:
    """How many blocks of a size so many records make; the last may be shorter."""
    return -(-records // size)


def block_rows(index: int, records: int, size: int = BLOCK_RECORDS) -> slice:
    """The rows of one block."""
    return slice(index * size, min((index + 1) * size, records))
