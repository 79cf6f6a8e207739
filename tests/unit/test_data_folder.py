"""A dataset folder: what is written is read back, and a changed byte is found."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay import canonical
from assay.data.dataset import Dataset, concat
from assay.data.manifest import BatchShare, History
from assay.errors import UnfitInput

HISTORY = History("ingest", "kept", (BatchShare("v", "b", "0" * 64, 0), BatchShare("w", "b", "1" * 64, 0)))


def dataset(rows: int = 200) -> Dataset:
    rng = np.random.default_rng(3)
    return Dataset.make(
        pa.table(
            {
                "batch": pa.array(["v/b"] * (rows // 2) + ["w/b"] * (rows - rows // 2)),
                "row": pa.array([*range(rows // 2), *range(rows - rows // 2)]),
                "f": pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.1),
                "s": pa.array([["a", "bb", None][k % 3] for k in range(rows)]),
                "x": pa.FixedShapeTensorArray.from_numpy_ndarray(rng.random((rows, 2, 2)).astype(np.float32)),
                "label": pa.array(rng.integers(0, 2, rows)),
            }
        ),
        ["n", "y"],
        HISTORY,
    )


def test_a_folder_read_back_is_the_dataset(tmp_path: Path) -> None:
    dataset().save(tmp_path / "d")
    read = Dataset.load(tmp_path / "d")
    assert read.manifest == dataset().manifest
    assert read.table.equals(dataset().table)
    assert canonical.file_digest(tmp_path / "d" / "manifest.json") == read.manifest.digest


def test_equal_datasets_have_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        dataset().save(tmp_path / name)
    assert canonical.tree_files(tmp_path / "a") == canonical.tree_files(tmp_path / "b")


def test_any_changed_byte_is_found_or_changes_no_record(tmp_path: Path) -> None:
    """300 bytes at random over all files: an error of the one kind, or another manifest digest.

    Parquet has bytes that no record depends on (the writer's name, statistics, unused ends of pages). Changing one of
    those is harmless, and proven so here: the whole table, types included, is equal.
    """
    original = dataset()
    folder = tmp_path / "d"
    original.save(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rng = random.Random(7)
    found = {"refused": 0, "other digest": 0, "no record differs": 0}
    for _ in range(300):
        path = rng.choices(files, [file.stat().st_size for file in files])[0]
        before = path.read_bytes()
        changed = bytearray(before)
        changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
        path.write_bytes(changed)
        try:
            read = Dataset.load(folder)
        except UnfitInput:
            found["refused"] += 1
        else:
            if read.manifest.digest != original.manifest.digest:
                found["other digest"] += 1
            else:
                assert read.table.equals(original.table), "a record changed unnoticed"
                found["no record differs"] += 1
        path.write_bytes(before)
    assert sum(found.values()) == 300
    assert found["refused"] > 200
    assert found["no record differs"] < 40


def test_data_written_anew_after_the_manifest_is_refused(tmp_path: Path) -> None:
    dataset().save(tmp_path / "d")
    part = tmp_path / "d" / "data" / "part-00000.parquet"
    table = pq.read_table(part)
    labels = table["label"].to_numpy().copy()
    labels[17] = 1 - labels[17]
    pq.write_table(table.set_column(table.column_names.index("label"), "label", pa.array(labels)), part)
    with pytest.raises(UnfitInput, match="changed after the manifest"):
        Dataset.load(tmp_path / "d")


def test_a_record_id_twice_is_refused() -> None:
    one = dataset()
    with pytest.raises(UnfitInput, match=r"v/b:0 twice"):
        concat([one, one], HISTORY)


@pytest.mark.parametrize("missing", ["manifest.json", "data/part-00000.parquet"])
def test_a_missing_file_is_an_input_error(tmp_path: Path, missing: str) -> None:
    dataset().save(tmp_path / "d")
    (tmp_path / "d" / missing).unlink()
    with pytest.raises(UnfitInput):
        Dataset.load(tmp_path / "d")


def test_room_is_only_for_the_same_dataset(tmp_path: Path) -> None:
    one, other = dataset(), dataset(100)
    one.require_room(tmp_path / "new")
    one.save(tmp_path / "d")
    one.require_room(tmp_path / "d")
    one.save(tmp_path / "d")
    with pytest.raises(UnfitInput, match="something else"):
        other.require_room(tmp_path / "d")
