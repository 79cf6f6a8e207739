"""Memory does not grow with the table: the real commands, in processes of their own, on one four times as long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench_memory.py"
SUITE = [{"type": "expect_column_values_to_be_between", "kwargs": {"column": "f0", "min_value": -5, "max_value": 5}}]


def peak_mib(argv: list[str], folder: Path) -> float:
    """Of one command, as the kernel says when it ends."""
    home = {**os.environ, "ASSAY_HOME": str(folder / ".assay")}
    command = [str(Path(sys.executable).with_name("assay")), *argv]
    process = subprocess.Popen(command, env=home, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss / 1024


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_peak_memory_of_ingest_and_sanitize_does_not_follow_the_table(tmp_path: Path, kind: str) -> None:
    """400,000 and 1,600,000 records of 20 columns. The longer table takes 180 MB more as Arrow holds it; what may grow
    is 8 bytes a record and an expectation of uniqueness, and the slack of allocators: 96 MiB.
    """
    (tmp_path / "sanitize.yaml").write_text(json.dumps({"suite": SUITE}))
    peaks: dict[str, list[float]] = {"ingest": [], "sanitize": []}
    for rows in (400_000, 1_600_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        for name, count in (("v", rows), ("t", 5000)):
            made = [sys.executable, str(BENCH), "--make", f"{folder}/{name}.{kind}", str(count), str(rows + count)]
            subprocess.run(made, check=True)
        given = [f"v={folder}/v.{kind}", f"t={folder}/t.{kind}", "--trusted", "t"]
        peaks["ingest"].append(peak_mib(["ingest", *given, "--out", "in"], folder))
        parts = ["--out", "kept", "--quarantine", "left", "--config", str(tmp_path / "sanitize.yaml")]
        peaks["sanitize"].append(peak_mib(["sanitize", "in/dataset", *parts], folder))
    print(peaks)
    for step, (short, long) in peaks.items():
        assert long - short < 96, (step, short, long)
        assert long < 1024, step
