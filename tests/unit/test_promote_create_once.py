"""The create-once file below every promotion: whole or not there, and one winner."""

from __future__ import annotations

import os
import stat
from multiprocessing import get_context
from pathlib import Path

import pytest

from assay.data.files import TEMPORARY, create_file
from assay.errors import Conflict
from assay.ledger import FileLedger, put_first


@pytest.fixture(params=["unnamed", "temporary"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With files that have no name yet, and on a file system that knows none."""
    if request.param == "temporary":
        monkeypatch.delattr(os, "O_TMPFILE")
    return str(request.param)


def test_the_first_bytes_stay(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "name"
    assert create_file(path, b"first", mode=0o600)
    assert not create_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["name"]


def test_a_full_disk_leaves_neither_name_nor_temporary_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        create_file(tmp_path / "name", b"bytes")
    assert os.listdir(tmp_path) == []


def contend(arguments: tuple[str, int]) -> list[bool]:
    folder, process = arguments
    return [create_file(Path(folder) / str(name), bytes([process]) * 4096) for name in range(50)]


def test_of_several_creators_one_wins_each_name(tmp_path: Path) -> None:
    with get_context("fork").Pool(4) as pool:
        won = pool.map(contend, [(str(tmp_path), process) for process in range(4)], chunksize=1)
    assert [sum(column) for column in zip(*won, strict=True)] == [1] * 50
    for name in range(50):
        winner = next(process for process in range(4) if won[process][name])
        assert (tmp_path / str(name)).read_bytes() == bytes([winner]) * 4096
    assert not list(tmp_path.glob(f"{TEMPORARY}*"))


def test_the_ledger_keeps_the_first_envelope_of_an_id(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path)
    assert ledger.put("a/b", b"first")
    assert not ledger.put("a/b", b"first")
    with pytest.raises(Conflict):
        ledger.put("a/b", b"second")
    assert put_first(ledger, "a/b", b"second") == b"first"
    assert put_first(ledger, "a/c", b"second") == b"second"
