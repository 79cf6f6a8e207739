"""Ingest piece by piece: the rows, refusals, digests and files of one that holds everything, wherever a piece ends."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ingest_cases import joined
from test_ingest_csv import GOOD
from test_ingest_step import run, source

from assay.config.base import parse
from assay.config.ingest import IngestConfig
from assay.data import layout
from assay.data.dataset import Dataset
from assay.errors import UnfitInput
from assay.ingest import lines
from assay.ingest.readers.csv import NUMBER, Csv, plain_numbers
from assay.ingest.readers.parquet import Parquet
from assay.ingest.rows import Delivery, Rows

LOOSE: dict[str, Any] = {"limits": {"refused_share": 1}}
LINE = st.sampled_from(
    [
        b"1,2,a",
        b"1.5,-2e3,b",
        b"3,,a",
        b"x,y,b",
        b'"4",5,a',
        b'"6,7",8,b',
        b"9,10",
        b"",
        b"\xff,1,a",
        b"\xef\xbb\xbf1,2,a",
    ]
) | st.binary(max_size=8)
ENDING = st.sampled_from([b"\n", b"\r\n", b"\r", b""])


def read(data: bytes, folder: Path, block: int, plain: bool = True) -> tuple[Any, ...]:
    """Rows and refusals of a file read in blocks of a size, or why there are none."""
    (folder / "b.csv").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        if not plain:
            patch.setattr(lines, "_plain", lambda *_: False)
        try:
            rows = joined(Csv().chunks(Delivery("s/b", folder / "b.csv"), parse(IngestConfig, LOOSE, "ingest")))
        except UnfitInput as error:
            return (str(error),)
    return rows.table.schema, repr(rows.table.to_pylist()), rows.refused


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.lists(st.tuples(LINE, ENDING), max_size=25), block=st.integers(1, 80))
@example(body=[(lines.MARK + b"1,2,a", b"\n")], block=80)
def test_no_cell_depends_on_where_a_block_ends_or_on_who_split_it(
    tmp_path: Path, body: list[tuple[bytes, bytes]], block: int
) -> None:
    """Reference: the file as one block, each of its lines split by itself."""
    data = b"p,q,label\n" + b"".join(line + ending for line, ending in body)
    assert read(data, tmp_path, block) == read(data, tmp_path, 2**20, plain=False)


@settings(max_examples=150)
@given(cells=st.lists(st.text("0123456789.-+eE", max_size=7) | st.floats().map(repr), min_size=1, max_size=4))
@example(cells=["007"])
@example(cells=["+007"])
@example(cells=["-00.5"])
@example(cells=["1e400"])
@example(cells=["-0"])
def test_what_passes_for_plain_numbers_are_numbers_and_the_same_floats(cells: list[str]) -> None:
    """Reference: the rule for a number, and Python's own reading of it."""
    values = plain_numbers(pa.array(cells), np.zeros(len(cells), np.bool_))
    if values is None:
        return
    for cell, value in zip(cells, values.tolist(), strict=True):
        assert re.fullmatch(NUMBER, cell)
        assert np.float64(cell).tobytes() == np.float64(value).tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_lines_are_numbered_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 50)
    rows = [*GOOD.splitlines(), "1,2", *GOOD.splitlines()[1:], "", "7,oh,a", "3,4,b"]
    data = "\n".join(rows).encode()
    path = tmp_path / "b.csv"
    path.write_bytes(gzip.compress(data) if packed else data)
    got = joined(Csv().chunks(Delivery("s/b", path), IngestConfig()))
    assert [(it.row, it.line, it.reason, it.data) for it in got.refused] == [
        (40, 42, "field_count", b"1,2"),
        (81, 84, "number_format", b"7,oh,a"),
    ]
    assert got.table["row"].to_pylist() == [k for k in range(83) if k not in (40, 81)]


@pytest.mark.slow
def test_a_changed_byte_at_a_border_of_blocks_moves_no_value_of_another_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte near every border of 64-byte blocks, changed to each of the signs that mean something."""
    data = GOOD.encode()
    before = {tuple(row.values())[1:] for row in joined(chunks_of(data, tmp_path)).table.to_pylist()}
    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    for place in [at for border in range(64, len(data), 64) for at in range(border - 3, border + 3) if at < len(data)]:
        for sign in b',"\n\r\x00 0.eE-x\xff':
            changed = bytearray(data)
            changed[place] = sign
            try:
                rows = joined(chunks_of(bytes(changed), tmp_path))
            except UnfitInput:
                continue
            after = {tuple(row.values())[1:] for row in rows.table.to_pylist()}
            assert len(before - after) <= 2
            assert len(after - before) <= 2


def chunks_of(data: bytes, folder: Path) -> Any:
    (folder / "b.csv").write_bytes(data)
    return Csv().chunks(Delivery("s/b", folder / "b.csv"), parse(IngestConfig, LOOSE, "ingest"))


def test_parquet_is_the_same_by_any_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["a", "b", None] * 100
    table = pa.table({"f": np.arange(300) / 7, "s": [f"t{k}" for k in range(300)], "label": labels})
    pq.write_table(table, tmp_path / "one.parquet")
    whole = read_parquet(tmp_path / "one.parquet")
    monkeypatch.setattr(layout, "PART_ROWS", 64)
    pq.write_table(table, tmp_path / "many.parquet", row_group_size=70)
    for name in ("one", "many"):
        got = read_parquet(tmp_path / f"{name}.parquet")
        assert got.table.equals(whole.table)
        assert got.refused == whole.refused
    assert [it.row for it in whole.refused] == list(range(2, 300, 3))


def read_parquet(path: Path) -> Rows:
    return joined(Parquet().chunks(Delivery("s/b", path), parse(IngestConfig, LOOSE, "ingest")))


def test_an_ingest_in_pieces_makes_what_one_in_one_piece_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Manifests, findings, raw rows and the document, with refused rows, copies of hold-out records and near ones."""
    rng = np.random.default_rng(0)
    trusted = rng.normal(size=(300, 2))
    pool = np.concatenate([rng.normal(size=(400, 2)), trusted[:40], trusted[40:80] + 1e-6])
    for name, values in (("t", trusted), ("v", pool)):
        text = "p,q,label\n" + "".join(f"{p!r},{q!r},{'ab'[k % 2]}\n" for k, (p, q) in enumerate(values.tolist()))
        (tmp_path / f"{name}.csv").write_text(text + ("oh\n1,2\n" if name == "v" else ""))
    sources = [source(tmp_path / "v.csv"), source(tmp_path / "t.csv", trust="trusted")]
    config = {"near_holdout": 1e-3}
    one = run(sources, tmp_path / "one", config)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 500)
    monkeypatch.setattr(layout, "PART_ROWS", 64)
    two = run(sources, tmp_path / "two", config)
    assert one["reasons"].keys() == {"field_count", "holdout_record", "near_holdout_record"}
    for name in ("dataset", "calibration", "holdout", "quarantine"):
        assert one.pop(name) | {"path": ""} == two.pop(name) | {"path": ""}
        assert Dataset.load(tmp_path / "one" / name).table.equals(Dataset.load(tmp_path / "two" / name).table)
    assert one == two
    for name in ("findings.parquet", "raw.jsonl"):
        assert (tmp_path / "one/quarantine" / name).read_bytes() == (tmp_path / "two/quarantine" / name).read_bytes()
    assert len(layout.parts_of(tmp_path / "two" / "dataset")) > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [".assay", "one", "t.csv", "two", "v.csv"]
