"""A step that is killed leaves nothing that looks finished, and the next run sweeps up after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay import canonical
from assay.data.files import TEMPORARY, whole_folder

HALF = """
import sys, time
from pathlib import Path
from assay.data.files import whole_folder
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / "one").write_bytes(b"half of it")
    print("half", flush=True)
    time.sleep(60)
"""

INGEST = """
import sys
from assay.cli.main import run
sys.exit(run(["ingest", *sys.argv[1:], "--out", "out"]))
"""


def half_done(target: Path) -> subprocess.Popen[str]:
    """A process that is in the middle of writing a folder."""
    process = subprocess.Popen([sys.executable, "-c", HALF, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def fill(target: Path) -> None:
    with whole_folder(target) as folder:
        (folder / "one").write_bytes(b"all of it")


def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path: Path) -> None:
    kill(half_done(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert len(list(tmp_path.glob(f"{TEMPORARY}*"))) == 1
    fill(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "one").read_bytes() == b"all of it"


def test_the_folder_of_a_writer_at_work_stays(tmp_path: Path) -> None:
    at_work = half_done(tmp_path / "out")
    try:
        fill(tmp_path / "out")
        fill(tmp_path / "out-2")
        assert len(list(tmp_path.glob(f"{TEMPORARY}*"))) == 1
    finally:
        kill(at_work)


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with whole_folder(tmp_path / "out") as folder:
            (folder / "one").write_bytes(b"half")
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_ingest_killed_at_four_moments_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """Kills spread over the run's own length; the state afterwards is equal: folders, ledger, no temporary file."""
    rng = np.random.default_rng(0)
    for name in ("v", "t"):
        pq.write_table(
            pa.table({"f": rng.normal(size=3000), "label": np.arange(3000) % 2}), tmp_path / f"{name}.parquet"
        )
    given = [f"v={tmp_path / 'v.parquet'}", f"t={tmp_path / 't.parquet'}", "--trusted", "t"]

    def start(folder: Path) -> subprocess.Popen[str]:
        folder.mkdir(exist_ok=True)
        code = [sys.executable, "-c", INGEST, *given]
        home = {**os.environ, "ASSAY_HOME": str(folder / ".assay")}
        return subprocess.Popen(
            code, cwd=folder, env=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )

    before = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    length = time.monotonic() - before
    for share in (0.5, 0.7, 0.85, 0.95):
        process = start(tmp_path / "killed")
        time.sleep(share * length)
        kill(process)
    assert start(tmp_path / "killed").wait() == 0
    assert not list((tmp_path / "killed").rglob(f"{TEMPORARY}*"))
    for part in ("out", ".assay/ledger"):
        assert canonical.tree_files(tmp_path / "killed" / part) == canonical.tree_files(tmp_path / "whole" / part)
