"""Merkle root of a 1,000,000 x 20 mixed table against one SHA-256 stream over the same bytes; the bound is 2.

    python benchmarks/bench_merkle.py [rows]

CPU seconds of this process, the least of nine runs, both in turn. The stream is what the root covers: every block's
bytes, one after another, already laid out in memory, so the root's side also pays for laying them out.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from assay.data import merkle

ROUNDS = 9
BOUND = 2.0


def table(rows: int) -> pa.Table:
    """Ten floats, five integers, three texts, a boolean and a column with nulls."""
    rng = np.random.default_rng(0)
    words = np.array(["alpha", "beta", "gamma-ray", "delta and more"])
    return pa.table(
        {f"f{k}": rng.normal(size=rows) for k in range(10)}
        | {f"i{k}": rng.integers(0, 1000, rows) for k in range(5)}
        | {f"s{k}": words[rng.integers(0, len(words), rows)] for k in range(3)}
        | {"b": rng.random(rows) < 0.5, "n": pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.1)}
    )


def stream(rows: pa.Table) -> bytes:
    """The bytes of all blocks, one after another, each with its prefix, as the root hashes them."""
    seen: list[bytes] = []

    class Recorder:
        def __init__(self, data: bytes) -> None:
            seen.append(bytes(data))

        def digest(self) -> bytes:
            return b""

    real, hashlib.sha256 = hashlib.sha256, Recorder  # type: ignore[assignment,misc]
    try:
        merkle.block_digests(rows)
    finally:
        hashlib.sha256 = real  # type: ignore[misc]
    return b"".join(seen)


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    given = table(rows)
    data = stream(given)
    merkle.merkle_root(merkle.block_digests(given))
    pairs = [
        (seconds(lambda: merkle.merkle_root(merkle.block_digests(given))), seconds(lambda: hashlib.sha256(data)))
        for _ in range(ROUNDS)
    ]
    root, limit = (min(pair[side] for pair in pairs) for side in (0, 1))
    print(f"{rows} rows x {given.num_columns} columns, {len(data) / 1e6:.0f} MB of blocks")
    print(f"Merkle root {root:.3f} s, one SHA-256 stream {limit:.3f} s: ratio {root / limit:.2f} (bound {BOUND})")
    sys.exit(root > BOUND * limit)


if __name__ == "__main__":
    main()
