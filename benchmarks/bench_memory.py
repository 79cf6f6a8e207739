"""Peak memory and time of `assay ingest` and `assay sanitize` on a table larger than memory should have to hold.

    python benchmarks/bench_memory.py [rows] [csv|parquet] [s3]

Each runs as its own process, as a user starts it; the peak is what the kernel says of it when it ends (``ru_maxrss``,
all pages it held at once, those of files included). The input is made by another process.
With ``s3`` it lies in a bucket of moto's server, which is a process of its own too, and only `ingest` is measured.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

BOUND_MIB = 1024
SEED = 0
TRUSTED = 20_000
SUITE = [
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "f0", "min_value": -5, "max_value": 5}},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "s0"}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "s1", "value_set": ["alpha", "beta", "gamma"]}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "f1"}},
]


def make(path: Path, rows: int, seed: int) -> None:
    """Ten floats, five integers, three texts, a boolean and the label, written piece by piece."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    words = np.array(["alpha", "beta", "gamma"])
    writer = None
    for first in range(0, rows, 100_000):
        n = min(100_000, rows - first)
        table = pa.table(
            {f"f{k}": rng.normal(size=n) for k in range(10)}
            | {f"i{k}": rng.integers(0, 1000, n) for k in range(5)}
            | {f"s{k}": words[rng.integers(0, len(words), n)] for k in range(3)}
            | {"b": rng.random(n) < 0.5, "label": rng.integers(0, 2, n)}
        )
        if writer is None:
            quoting = pa.csv.WriteOptions(quoting_style="none")
            as_csv = path.suffix == ".csv"
            writer = (
                pa.csv.CSVWriter(path, table.schema, write_options=quoting)
                if as_csv
                else pq.ParquetWriter(path, table.schema)
            )
        writer.write_table(table)
    if writer is not None:
        writer.close()


def measured(argv: list[str], folder: Path) -> tuple[dict[str, object], float, float]:
    """What a command printed, its seconds, and its peak in MiB."""
    home = {**os.environ, "ASSAY_HOME": str(folder / ".assay")}
    start = time.monotonic()
    with (folder / "answer.json").open("w+") as answer:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("assay")), *argv, "--json"], stdout=answer, env=home, cwd=folder
        )
        _, status, usage = os.wait4(process.pid, 0)
        answer.seek(0)
        text = answer.read()
    if status:
        raise SystemExit(f"assay {argv[0]} ended with status {status}")
    return json.loads(text), time.monotonic() - start, usage.ru_maxrss / 1024


@contextmanager
def bucket(folder: Path, names: list[str]) -> Iterator[None]:
    """A bucket ``incoming`` with the files, of a server that lives as long as the block."""
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    access = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", **access}
    command = [str(Path(sys.executable).with_name("moto_server")), "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        store = boto3.client("s3")
        store.create_bucket(Bucket="incoming")
        for name in names:
            store.upload_file(str(folder / name), "incoming", name)
            (folder / name).unlink()
        yield
    finally:
        server.kill()
        server.wait()


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    kind = sys.argv[2] if len(sys.argv) > 2 else "parquet"
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as made:
        folder = Path(made)
        for name, count, seed in (("v", rows, SEED), ("t", TRUSTED, SEED + 1)):
            subprocess.run(
                [sys.executable, __file__, "--make", f"{folder}/{name}.{kind}", f"{count}", f"{seed}"], check=True
            )
        limits = {"file_bytes": 2**36, "rows": max(rows, TRUSTED)}
        (folder / "ingest.yaml").write_text(json.dumps({"limits": limits}))
        (folder / "sanitize.yaml").write_text(json.dumps({"suite": SUITE}))
        size = (folder / f"v.{kind}").stat().st_size
        print(f"{rows} rows x 20 columns, {kind}, {size / 1e6:.0f} MB", flush=True)
        remote = "s3" in sys.argv[3:]
        place = "s3://incoming" if remote else folder
        given = [f"v={place}/v.{kind}", f"t={place}/t.{kind}", "--trusted", "t", "--config", "ingest.yaml"]
        with bucket(folder, [f"v.{kind}", f"t.{kind}"]) if remote else nullcontext():
            document, seconds, ingested = measured(["ingest", *given, "--out", "in"], folder)
        print(f"ingest    {seconds:6.0f} s  peak {ingested:5.0f} MiB  {document['kept']} kept", flush=True)
        if remote:
            sys.exit(ingested > BOUND_MIB)
        parts = ["--out", "kept", "--quarantine", "left", "--trusted", "in/calibration", "--config", "sanitize.yaml"]
        document, seconds, sanitized = measured(["sanitize", "in/dataset", *parts], folder)
        print(f"sanitize  {seconds:6.0f} s  peak {sanitized:5.0f} MiB  {document['kept']} kept", flush=True)
    worst = max(ingested, sanitized)
    print(f"peak {worst:.0f} MiB (bound {BOUND_MIB})")
    sys.exit(worst > BOUND_MIB)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
