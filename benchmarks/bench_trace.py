"""Trace in a ledger of 10,000 datasets: no index is kept, every document is read and verified each time.

    python benchmarks/bench_trace.py [--datasets 10000]

Held to at most 2.5 processor seconds for a record, a batch and a source each, and to 1 GiB at its peak. Beside it, what
no answer can do without: reading every manifest and taking its SHA-256. One JSON line; exits 1 above a bar.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay import canonical
from assay.data.manifest import BatchShare, Column, Content, History, Manifest
from assay.keyring import Keyring
from assay.trace import trace

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from lineage_cases import dataset

from assay.ledger import FileLedger

SECONDS, MEBIBYTES, SOURCES, BATCHES = 2.5, 1024, 50, 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as folder:
        ledger = FileLedger(Path(folder))
        write(ledger, given.datasets)
        refs = ("source:s7", "batch:s7/b7", "record:s7/b7:1")
        seconds = {ref: seconds_of(lambda ref=ref: trace(ref, ledger, Keyring())) for ref in refs}
        floor = seconds_of(lambda: read_all(ledger))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"datasets": given.datasets, "cpu_s": seconds, "read_s": floor, "peak_mib": round(memory)}))
    return int(max(seconds.values()) > SECONDS or memory > MEBIBYTES)


def write(ledger: FileLedger, datasets: int) -> None:
    """Datasets of two batches each; the files are written plainly, since none of this is what is measured."""
    for family in ("manifests", "records"):
        (ledger.root / family).mkdir()
    keys = {k: f"s{k % SOURCES}/b{k}" for k in range(BATCHES)}
    for k in range(datasets):
        first, second = keys[k % BATCHES], keys[(7 * k + 1) % BATCHES]
        made = dataset({first: 3, second: 2} if first != second else {first: 3})
        shares = tuple(BatchShare(*share.split("/"), "0" * 64, n) for share, n in counts(made))
        content = Content((Column("batch", "batch"), Column("row", "int64")), ("no", "yes"), len(made), f"{k:064x}")
        manifest = Manifest(content, History("ingest", "kept", shares, parameters={"k": k, "list": list(range(20))}))
        data = canonical.dumps(manifest.to_json())
        (ledger.root / "manifests" / f"{manifest.digest}.json").write_bytes(data)
        (ledger.root / "records" / f"{manifest.content_digest}.parquet").write_bytes(made.record_list())


def counts(made: Any) -> list[tuple[str, int]]:
    return [(f"{share.source}/{share.batch}", share.records) for share in made.manifest.history.sources]


def read_all(ledger: FileLedger) -> None:
    for name in ledger.names("manifests/"):
        canonical.sha256(ledger.get(name))


def seconds_of(work: Callable[[], object], repeats: int = 3) -> float:
    """Least processor seconds of a few tries: other work on the machine only adds."""
    spent = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return round(min(spent), 3)


if __name__ == "__main__":
    sys.exit(main())
