"""Cheap detectors on 1,000,000 x 50 against reading the Parquet file and sorting every column once; the bound is 5.

    python benchmarks/bench_detectors.py [rows]

CPU seconds of this process, the least of three runs each. Fitting to trusted records, scoring all, the cut and its
findings are counted. The peak is of one more run, of what numpy and Python allocate, beside the table itself.
"""

from __future__ import annotations

import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.config.base import parse
from assay.config.sanitize import SanitizeConfig
from assay.data.dataset import Dataset
from assay.data.manifest import BatchShare, History
from assay.sanitize.detect import detect

COLUMNS = 50
BOUND = 5.0
CHEAP = ("robust_z", "tukey", "mahalanobis", "kmeans")


def dataset(rows: int, source: str) -> Dataset:
    rng = np.random.default_rng([1, *source.encode()])
    columns = {f"f{k}": rng.normal(size=rows) for k in range(COLUMNS)}
    table = pa.table({"batch": [f"{source}/b"] * rows, "row": np.arange(rows), **columns, "label": np.arange(rows) % 2})
    return Dataset.make(table, ("a", "b"), History("ingest", "kept", (BatchShare(source, "b", "0" * 64, 0),)))


def limit(path: Path) -> None:
    table = pq.read_table(path)
    for name in table.column_names:
        if name.startswith("f"):
            np.sort(table[name].to_numpy())


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    given, trusted = dataset(rows, "v"), dataset(2000, "t")
    every = np.ones(rows, np.bool_)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.parquet"
        pq.write_table(given.table, path)
        least = min(seconds(lambda: limit(path)) for _ in range(3))
        for names in (*((name,) for name in CHEAP), CHEAP):
            config = parse(SanitizeConfig, {"detectors": {name: {"rate": 0.001} for name in names}}, "bench")
            spent = min(seconds(lambda: detect(given, every, trusted, config)) for _ in range(3))  # noqa: B023
            tracemalloc.start()
            detect(given, every, trusted, config)
            peak = tracemalloc.get_traced_memory()[1] / 1e6
            tracemalloc.stop()
            label = names[0] if len(names) == 1 else f"all {len(names)}"
            print(f"  {label:<14}{spent:6.2f} s  peak {peak:.0f} MB")
        least = min(least, *(seconds(lambda: limit(path)) for _ in range(3)))  # before and after: machines are shared
    print(f"{rows} rows x {COLUMNS}: read and one sort a column {least:.2f} s")
    print(f"all {len(CHEAP)} at once, as the step runs them: ratio {spent / least:.2f} (bound {BOUND})")
    sys.exit(spent > BOUND * least)


if __name__ == "__main__":
    main()
