"""Many writers at once, and one that is killed: one winner a name, and never half a file."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.data.files import TEMPORARY
from assay.errors import Conflict
from assay.ledger import FileLedger

RACER = """
import sys, time
from pathlib import Path
from assay.errors import Conflict
from assay.ledger import FileLedger
who, root, names, start = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
ledger, data = FileLedger(root), (who * 200_000).encode()
time.sleep(max(0.0, start - time.time()))
for number in range(names):
    try:
        print("won" if ledger.put(f"n/{number}", data) else "same", flush=True)
    except Conflict:
        print("lost", flush=True)
"""

WRITER = """
import sys
from pathlib import Path
from assay.ledger import FileLedger
ledger = FileLedger(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(10_000):
    ledger.put(f"n/{number}", str(number).encode() * 50_000)
"""


def test_four_processes_on_the_same_names_leave_one_winner_each(tmp_path: Path) -> None:
    names, start = 60, time.time() + 2.0
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, who, str(tmp_path), str(names), str(start)], stdout=subprocess.PIPE, text=True
        )
        for who in "abcd"
    ]
    said = [racer.communicate(timeout=120)[0].split() for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    ledger = FileLedger(tmp_path)
    for number in range(names):
        outcomes = [lines[number] for lines in said]
        assert sorted(outcomes) == ["lost", "lost", "lost", "won"]
        assert ledger.get(f"n/{number}") == ("abcd"[outcomes.index("won")] * 200_000).encode()
    assert len({lines.index("won") for lines in said if "won" in lines}) >= 1
    assert not list(tmp_path.rglob(f"{TEMPORARY}*"))


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_at_any_moment_leaves_whole_files_only(tmp_path: Path, seed: int) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    time.sleep(random.Random(seed).uniform(0.02, 0.4))
    os.kill(writer.pid, signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    writer.stdout.close()
    ledger = FileLedger(tmp_path)
    found = ledger.names("n/")
    assert [int(name.removeprefix("n/")) for name in sorted(found, key=lambda it: int(it[2:]))] == list(
        range(len(found))
    )
    for name in found:
        assert ledger.get(name) == name.removeprefix("n/").encode() * 50_000
    next_one = f"n/{len(found)}"
    assert ledger.put(next_one, b"goes on") is True
    with pytest.raises(Conflict):
        ledger.put(next_one, b"other")


def test_a_failing_disk_leaves_no_name_and_no_temporary_file(tmp_path: Path) -> None:
    """A file size limit stands for a full disk: the write breaks off part of the way."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from assay.ledger import FileLedger\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    FileLedger(Path(sys.argv[1])).put('n/1', b'x' * 200_000)\n"
        "except OSError:\n"
        "    sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, timeout=60, check=False)
    assert done.returncode == 7, done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
