"""Bad input through the command line: exit code 2, a clear word about it, and nothing half-written."""

from __future__ import annotations

import gzip
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.cli.main import run
from assay.data.dataset import Dataset
from assay.workspace import Workspace

GOOD = "x,y,label\n" + "".join(f"{k},{k * 7 % 5 / 4},{'ab'[k % 2]}\n" for k in range(40))
Maker = Callable[[Path], list[str]]


def csv(text: str | bytes, name: str = "v.csv") -> Maker:
    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return [f"v={folder / name}"]

    return make


def two(first: str, second: str) -> Maker:
    return lambda folder: [*csv(first, "v.csv")(folder), f"w={csv(second, 'w.csv')(folder)[0].partition('=')[2]}"]


def parquet(**columns: object) -> Maker:
    def make(folder: Path) -> list[str]:
        pq.write_table(pa.table(columns), folder / "v.parquet")
        return [f"v={folder / 'v.parquet'}"]

    return make


def truncated(folder: Path) -> list[str]:
    source = parquet(f=np.arange(1000.0), label=np.arange(1000) % 2)(folder)
    (folder / "v.parquet").write_bytes((folder / "v.parquet").read_bytes()[:-20])
    return source


def idx(images: bytes, labels: bytes | None) -> Maker:
    def make(folder: Path) -> list[str]:
        (folder / "x-ubyte").write_bytes(images)
        (folder / "y-ubyte").write_bytes(labels or b"")
        return [f"v={folder / 'x-ubyte'}" + (f",{folder / 'y-ubyte'}" if labels is not None else "")]

    return make


def pickled(folder: Path) -> list[str]:
    np.savez(folder / "v.npz", x=np.array([{}, {}], dtype=object), y=np.arange(2))
    return [f"v={folder / 'v.npz'}"]


def again(folder: Path) -> list[str]:
    return csv(GOOD)(folder) * 2


CASES: dict[str, tuple[Maker, str]] = {
    "no such file": (lambda folder: [f"v={folder / 'nothing.csv'}"], "no such file"),
    "a folder": (lambda folder: [f"v={folder}/.csv"], "v"),
    "an unknown ending": (csv(GOOD, "v.xlsx"), "an ending that no reader knows"),
    "an unknown scheme": (lambda _: ["v=ftp://host/v.csv"], "ftp://"),
    "a source nobody named": (lambda _: ["vendor"], "unknown source 'vendor'"),
    "a bad source name": (lambda folder: [f"v w={folder / 'v.csv'}"], "source"),
    "an empty file": (csv(""), "an empty file"),
    "a header only": (csv("x,y,label\n"), "no record"),
    "no label column": (csv(GOOD.replace("label", "target")), "label column 'label'"),
    "a look-alike label column": (csv(GOOD.replace("label", "lаbel")), "look-alike"),
    "a column twice": (csv(GOOD.replace("x,y", "x,x")), "ambiguous_column"),
    "confusable columns": (csv(GOOD.replace("x,y", "x,х")), "U+0445"),
    "one class": (csv(GOOD.replace(",b", ",a")), "one class"),
    "rows of another width": (csv(GOOD.replace(",a", ",1,a")), "field_count"),
    "UTF-16": (csv(GOOD.encode("utf-16")), "line 1"),
    "a column of NaN": (csv("x,label\n" + "nan,a\nnan,b\n" * 3), "no finite value"),
    "a column of infinities": (csv("x,label\n" + "inf,a\n-inf,b\n" * 3), "no finite value"),
    "a reserved column": (csv(GOOD.replace("x,y", "x,weight")), "which assay keeps"),
    "the same batch twice": (again, "it twice"),
    "another schema": (two(GOOD, GOOD.replace("x,y", "x,z")), "as in batch v/v"),
    "a list column": (parquet(f=[[1.0], [2.0]], label=["a", "b"]), "tensors of fixed shape"),
    "no Parquet": (csv(GOOD, "v.parquet"), "a Parquet file"),
    "a truncated Parquet": (truncated, "a Parquet file"),
    "a pickle": (pickled, "never unpickled"),
    "images without labels": (idx(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 9]), None), "labels_uri"),
    "a truncated IDX": (idx(bytes([0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 9]), bytes([0, 0, 8, 1])), "shape"),
    "a truncated gzip": (csv(gzip.compress(GOOD.encode())[:-20], "v.csv.gz"), "read whole"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_exits_2_with_its_reason_and_leaves_nothing(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, words = CASES[case]
    sources = make(tmp_path)
    before = {path for path in tmp_path.rglob("*") if ".assay" not in path.parts}
    assert run(["ingest", *sources, "--out", str(tmp_path / "out"), "--json"]) == 2
    output = capsys.readouterr()
    assert words in json.loads(output.out)["error"]["message"]
    assert "Traceback" not in output.err
    assert {path for path in tmp_path.rglob("*") if ".assay" not in path.parts} == before
    assert workspace.ledger.names() == []


def test_a_batch_name_with_other_bytes_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ingest", *csv(GOOD)(tmp_path), "--out", str(tmp_path / "one")]) == 0
    assert run(["ingest", *csv(GOOD + "9,9,a\n")(tmp_path), "--out", str(tmp_path / "two")]) == 2
    assert "for ever" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()
    assert run(["ingest", f"v/b2={tmp_path / 'v.csv'}", "--out", str(tmp_path / "two")]) == 0


def test_an_unknown_key_exits_2_and_names_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ingest.yaml").write_text("lable: target\n")
    given = ["ingest", *csv(GOOD)(tmp_path), "--out", str(tmp_path / "out"), "--config", str(tmp_path / "ingest.yaml")]
    assert run(given) == 2
    assert "Did you mean 'label'" in capsys.readouterr().err


def test_sources_of_a_file_are_found_by_name_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv(GOOD)(tmp_path)
    csv(GOOD.replace(",0.5,", ",0.75,"), "own.csv")(tmp_path)
    (tmp_path / "s.yaml").write_text("- {name: v, uri: v.csv}\n- {name: own, uri: own.csv}\n")
    given = ["ingest", "v", "own", "--sources", str(tmp_path / "s.yaml"), "--trusted", "own"]
    assert run([*given, "--out", str(tmp_path / "out"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["calibration"]["records"] + document["holdout"]["records"] == 40
    assert document["kept"] + document["quarantined"] == 40
    assert run([*given[:3], *given[3:5], "--trusted", "vv", "--out", str(tmp_path / "no")]) == 2
    assert "Did you mean 'v'" in capsys.readouterr().err


def test_a_gzip_bomb_ends_in_a_clear_error_within_its_memory(tmp_path: Path) -> None:
    """100 MB of a valid CSV in some hundred kB, and a limit of 16 MB; the address space is capped at 1.5 GiB."""
    with gzip.open(tmp_path / "v.csv.gz", "wb", compresslevel=9) as stream:
        stream.write(b"x,label\n")
        for _ in range(100):
            stream.write(b"1,a\n2,b\n" * 125_000)
    assert (tmp_path / "v.csv.gz").stat().st_size < 2_000_000
    (tmp_path / "ingest.yaml").write_text("limits: {file_bytes: 16000000}\n")
    given = [
        "ingest",
        f"v={tmp_path / 'v.csv.gz'}",
        "--out",
        str(tmp_path / "o"),
        "--config",
        str(tmp_path / "ingest.yaml"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; from assay.cli.main import run; sys.exit(run({given!r}))"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 * 2**29, 3 * 2**29)),
    )
    assert done.returncode == 2, done.stderr
    assert "unpacked" in done.stderr
    assert not (tmp_path / "o").exists()


def test_nan_and_infinities_reach_sanitize_and_leave_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ingest", *csv(GOOD + "nan,1,a\n3,inf,b\n")(tmp_path), "--out", str(tmp_path / "o")]) == 0
    given = [
        "sanitize",
        str(tmp_path / "o" / "dataset"),
        "--out",
        str(tmp_path / "k"),
        "--quarantine",
        str(tmp_path / "q"),
    ]
    capsys.readouterr()
    assert run([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reasons"] == {"not_finite": 2}
    assert Dataset.load(tmp_path / "q").record_ids == ["v/v:40", "v/v:41"]


def test_a_dataset_changed_after_its_manifest_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ingest", *csv(GOOD)(tmp_path), "--out", str(tmp_path / "o")]) == 0
    part = tmp_path / "o" / "dataset" / "data" / "part-00000.parquet"
    pq.write_table(pq.read_table(part).slice(1), part)
    given = [
        "sanitize",
        str(tmp_path / "o" / "dataset"),
        "--out",
        str(tmp_path / "k"),
        "--quarantine",
        str(tmp_path / "q"),
    ]
    assert run(given) == 2
    assert "changed after the manifest" in capsys.readouterr().err
    assert not (tmp_path / "k").exists()
    assert not (tmp_path / "q").exists()


def test_markup_in_cells_and_names_stays_text_on_the_page(tmp_path: Path) -> None:
    """A supplier chooses column names, cells and labels; none may act on the page of who reviews them."""
    evil = "<script>alert(1)</script>"
    text = (
        f"x,{evil},label\n"
        + "".join(f"{k},{evil},{'ab'[k % 2]}{evil}\n" for k in range(20))
        + f"3,=cmd|x,a{evil}\n" * 2
    )
    assert run(["ingest", *csv(text)(tmp_path), "--out", str(tmp_path / "o")]) == 0
    given = [
        "sanitize",
        str(tmp_path / "o" / "dataset"),
        "--out",
        str(tmp_path / "k"),
        "--quarantine",
        str(tmp_path / "q"),
    ]
    assert run([*given, "--page", str(tmp_path / "p.html")]) == 0
    page = (tmp_path / "p.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert ">=cmd" not in page
