"""Datasets written part by part on a disk that fills up, by processes that are killed, and by two at once."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay import canonical
from assay.data.dataset import Dataset
from assay.data.files import TEMPORARY
from assay.data.manifest import BatchShare, History
from assay.errors import AssayError

ROWS = 400
HISTORY = History("ingest", "kept", (BatchShare("v", "b", "0" * 64, 0),))

WRITER = """
import os, signal, sys
from pathlib import Path
import pyarrow.parquet as pq
sys.path.insert(0, sys.argv[3])
from test_stream_faults import dataset
from assay.data import layout, stream
layout.PART_ROWS = 64
left = int(sys.argv[2])

def dying(call):
    def counted(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **named)
    return counted

os.fsync, os.replace = dying(os.fsync), dying(os.replace)
pq.write_table, Path.write_bytes = dying(pq.write_table), dying(Path.write_bytes)
dataset().save(sys.argv[1])
print("done")
"""

INGEST = """
import sys
from assay.cli.main import run
sys.exit(run(["ingest", *sys.argv[1:], "--json"]))
"""


def dataset(rows: int = ROWS) -> Dataset:
    rng = np.random.default_rng(3)
    table = pa.table(
        {
            "batch": pa.array(["v/b"] * rows),
            "row": pa.array(range(rows)),
            "f": rng.normal(size=rows),
            "label": rng.integers(0, 2, rows),
        }
    )
    return Dataset.make(table, ["n", "y"], HISTORY)


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    """The kernel refuses to let files grow: what a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(
            AssayError, match=r"after \d+ bytes of it, with \d+ free.*make room and run it again"
        ) as raised:
            dataset(5000).save(tmp_path / "out" / "d")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []
    dataset(5000).save(tmp_path / "out" / "d")
    assert Dataset.load(tmp_path / "out" / "d").manifest == dataset(5000).manifest


@pytest.mark.slow
def test_a_writer_killed_at_every_write_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    """At each part, file, sync and the rename: no folder, or the whole one; the next run ends as the first."""

    def write(name: str, moment: int) -> int:
        code = [sys.executable, "-c", WRITER, str(tmp_path / name), str(moment), str(Path(__file__).parent)]
        return subprocess.run(code, capture_output=True, timeout=120, check=False).returncode

    assert write("whole", 0) == 0
    whole = canonical.tree_files(tmp_path / "whole")
    moment = killed = 0
    while True:
        moment += 1
        if write("d", moment) == 0:
            break
        killed += 1
        if (tmp_path / "d").exists():
            assert canonical.tree_files(tmp_path / "d") == whole
            shutil.rmtree(tmp_path / "d")
    assert killed >= 7 + 2 + 9 + 1
    assert canonical.tree_files(tmp_path / "d") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "whole"]


def deliveries(folder: Path, rows: int = 3000, seed: int = 0) -> list[str]:
    for at, name in enumerate(("v", "t")):
        rng = np.random.default_rng([seed, at])
        pq.write_table(pa.table({"f": rng.normal(size=rows), "label": np.arange(rows) % 2}), folder / f"{name}.parquet")
    return [f"v={folder / 'v.parquet'}", f"t={folder / 't.parquet'}", "--trusted", "t"]


def start(given: list[str], out: Path, home: Path, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    code = [*before, sys.executable, "-c", INGEST, *given, "--out", str(out)]
    environment = {**os.environ, "ASSAY_HOME": str(home)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(code, env=environment, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


@pytest.mark.slow
def test_an_ingest_onto_a_disk_that_fills_up_says_so_and_goes_through_once_there_is_room(tmp_path: Path) -> None:
    """A file system of its own, too small for the rows, for the parts, and for the last of them."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    given, disk = deliveries(tmp_path), tmp_path / "disk"
    disk.mkdir()
    mount = 'mount -t tmpfs -o size=$1 tmpfs "$2"; shift; shift; "$@"; code=$?; find "$0" >&2; exit $code'
    for size in (40_000, 80_000, 120_000):
        box = ("unshare", "-rm", "sh", "-c", mount, str(disk), str(size), str(disk))
        process = start(given, disk / "out", tmp_path / "home", box)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 3, errors
        assert "make room and run it again" in errors
        assert [line for line in errors.splitlines() if line.startswith(str(disk))] == [str(disk)]
    process = start(given, tmp_path / "out", tmp_path / "home")
    assert process.wait() == 0
    process = start(given, tmp_path / "other", tmp_path / "home-2")
    assert process.wait() == 0
    assert canonical.tree_files(tmp_path / "out") == canonical.tree_files(tmp_path / "other")


@pytest.mark.slow
def test_two_ingests_at_once_of_the_same_batches_end_as_one(tmp_path: Path) -> None:
    """One ledger; the same folder, and folders of their own."""
    given = deliveries(tmp_path, rows=20_000)
    assert start(given, tmp_path / "alone", tmp_path / "home-alone").wait() == 0
    places = [tmp_path / "out", tmp_path / "out", tmp_path / "own"]
    racers = [start(given, place, tmp_path / "home") for place in places]
    said = [racer.communicate(timeout=180) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0], [errors for _, errors in said]
    assert len({json.loads(text)["dataset"]["digest"] for text, _ in said}) == 1
    for name in ("out", "own"):
        assert canonical.tree_files(tmp_path / name) == canonical.tree_files(tmp_path / "alone")
    assert not list(tmp_path.rglob(f"{TEMPORARY}*"))


@pytest.mark.slow
def test_two_ingests_at_once_of_one_name_with_other_bytes_have_one_winner(tmp_path: Path) -> None:
    sides = []
    for seed, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        sides.append(deliveries(tmp_path / name, rows=20_000, seed=seed))
    racers = [start(given, tmp_path / f"out-{at}", tmp_path / "home") for at, given in enumerate(sides)]
    said = [racer.communicate(timeout=180) for racer in racers]
    codes = [racer.returncode for racer in racers]
    assert sorted(codes) == [0, 2], said
    assert not (tmp_path / f"out-{codes.index(2)}").exists()
    assert "bound to for ever" in said[codes.index(2)][1]
