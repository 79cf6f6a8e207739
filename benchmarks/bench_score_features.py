"""`assay score-features` on 1,000,000 x 512 in one process and in eight shards: the same bytes, under 1 GiB each.

    python benchmarks/bench_score_features.py [--records 1000000] [--width 512] [--shards 8] [--keep FOLDER]

Features of ten classes in a file (2 GB), 400 trusted records a class; every verb in a process of its own, whose peak
memory and CPU seconds count. One JSON line; exits 1 where a peak exceeds 1 GiB or a byte differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

HERE = str(Path(__file__).absolute())
CLASSES, TRUSTED, LIMIT_MB, ROWS = 10, 4000, 1024, 10_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("records", 1_000_000), ("width", 512), ("shards", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.write:
        return write(given.records, given.width)
    with TemporaryDirectory(dir=given.keep) as folder:
        os.chdir(folder)
        return compare(given.records, given.width, given.shards)


def compare(records: int, width: int, shards: int) -> int:
    sizes = ["--records", str(records), "--width", str(width)]
    subprocess.run([sys.executable, HERE, "--write", *sizes], check=True)  # a peak is inherited from who starts it
    common = ["x.npy", "--labels", "y.npy"]
    trusted = ["--trusted", "t.npy", "--trusted-labels", "ty.npy"]
    one = verb(*common, *trusted, "--out", "one.parquet")
    names = [f"{number}.safetensors" for number in range(1, shards + 1)]
    summed = [verb(*common, "--shard", f"{number}/{shards}", "--out", name) for number, name in enumerate(names, 1)]
    states = [option for name in names for option in ("--state", name)]
    joined = verb(*common, *trusted, *states, "--out", "many.parquet")
    same = Path("one.parquet").read_bytes() == Path("many.parquet").read_bytes()
    peak = max(mb for _, mb in (one, *summed, joined))
    result = {
        "records": records,
        "width": width,
        "shards": shards,
        "one": dict(zip(("cpu_s", "peak_mb"), one, strict=True)),
        "shard_cpu_s": [cpu for cpu, _ in summed],
        "shard_peak_mb": max(mb for _, mb in summed),
        "state_mb": max(Path(name).stat().st_size for name in names) // 10**6,
        "joined": dict(zip(("cpu_s", "peak_mb"), joined, strict=True)),
        "limit_mb": LIMIT_MB,
        "same_bytes": same,
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if same and peak <= LIMIT_MB else 1


def verb(*arguments: str) -> tuple[float, int]:
    """CPU seconds and peak memory in MiB of one process."""
    command = [sys.executable, "-m", "assay.cli", "score-features", *arguments, "--json"]
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(sys.executable, command, {**os.environ, "OMP_NUM_THREADS": "1"}, file_actions=quiet)
    _, status, used = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: {os.waitstatus_to_exitcode(status)}")
    return round(used.ru_utime + used.ru_stime, 1), used.ru_maxrss // 1024


def write(records: int, width: int) -> int:
    """Features and labels of all records, and of trusted ones."""
    draw = np.random.default_rng(0)
    means = 3 * draw.standard_normal((CLASSES, width)).astype(np.float32)
    labels = draw.integers(0, CLASSES, records)
    features = np.lib.format.open_memmap("x.npy", "w+", np.float32, (records, width))
    for begin in range(0, records, ROWS):
        own = labels[begin : begin + ROWS]
        features[begin : begin + ROWS] = means[own] + draw.standard_normal((len(own), width), dtype=np.float32)
    features.flush()
    known = np.arange(TRUSTED) % CLASSES
    for name, array in (("y", labels), ("ty", known), ("t", means[known] + draw.standard_normal((TRUSTED, width)))):
        np.save(f"{name}.npy", array)
    return 0


if __name__ == "__main__":
    sys.exit(main())
