"""Datasets in parts: what is written is what memory would hold, however the records were handed over."""

from __future__ import annotations

import io
import itertools
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_data_folder import HISTORY, dataset

from assay import canonical
from assay.data import layout
from assay.data.dataset import Dataset
from assay.data.stream import DatasetReader, RecordList, writing
from assay.errors import UnfitInput


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "PART_ROWS", 64)


def write(whole: Dataset, path: Path, cuts: list[int]) -> None:
    """A dataset written in tables that end at the cuts."""
    ends = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    with writing(path, whole.manifest.content.classes) as writer:
        for start, stop in itertools.pairwise(ends):
            writer.add(whole.table.slice(start, stop - start))
        assert writer.finish(HISTORY) == whole.manifest
        assert writer.record_list() == whole.record_list()


@pytest.mark.parametrize("cuts", [[1], [100_000], [65_536, 131_072, 262_144]])
def test_equal_records_give_one_list_of_them_wherever_they_were_cut(cuts: list[int]) -> None:
    """Several pages of it: the ledger binds the list under the content's digest, and other bytes are a conflict."""
    batch = pa.DictionaryArray.from_arrays(pa.array(np.zeros(300_000, np.int32)), pa.array(["a/b"]))
    keys = pa.table({"batch": batch, "row": np.arange(300_000)})
    whole, cut = RecordList(io.BytesIO()), RecordList(io.BytesIO())
    whole.add(keys)
    for start, stop in itertools.pairwise([0, *cuts, len(keys)]):
        cut.add(keys.slice(start, stop - start))
    whole.close()
    cut.close()
    assert cut.bytes() == whole.bytes()


def write_all(tables: list[pa.Table], path: Path) -> None:
    with writing(path, ["n", "y"]) as writer:
        for table in tables:
            writer.add(table)
        writer.finish(HISTORY)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 300), cuts=st.lists(st.integers(0, 10**6), max_size=6))
def test_no_digest_depends_on_where_the_records_were_cut(
    small_parts: None, tmp_path_factory: pytest.TempPathFactory, rows: int, cuts: list[int]
) -> None:
    whole, folder = dataset(rows), tmp_path_factory.mktemp("d")
    write(whole, folder / "cut", cuts)
    whole.save(folder / "whole")
    assert canonical.tree_files(folder / "cut") == canonical.tree_files(folder / "whole")
    assert len(layout.parts_of(folder / "cut")) == max(1, -(-rows // 64))
    read = Dataset.load(folder / "cut")
    assert read.manifest == whole.manifest
    assert read.table.equals(whole.table)
    assert sum(table.num_rows for table in DatasetReader(folder / "cut").tables()) == rows


def test_a_dataset_without_records_is_written_and_read(tmp_path: Path) -> None:
    none = Dataset.make(dataset().table.slice(0, 0), ["n", "y"], HISTORY)
    none.save(tmp_path / "d")
    read = Dataset.load(tmp_path / "d")
    assert (read.manifest, read.table.schema) == (none.manifest, none.table.schema)
    assert [table.num_rows for table in DatasetReader(tmp_path / "d").tables()] == [0]


@pytest.mark.parametrize("rows", [0, 300])
def test_the_list_of_records_is_that_of_one_write(rows: int) -> None:
    """Reference: pyarrow's own file of the two columns, as every release before wrote it."""
    whole, sink = dataset(300), io.BytesIO()
    whole = Dataset.make(whole.table.slice(0, rows), ["n", "y"], HISTORY)
    keys = whole.table.select(["batch", "row"])
    pq.write_table(keys.set_column(0, "batch", keys["batch"].cast(pa.string())), sink, compression="zstd")
    assert whole.record_list() == sink.getvalue()


@pytest.mark.slow
def test_a_thousand_random_one_byte_changes_of_a_folder_of_many_parts_are_found(
    small_parts: None, tmp_path: Path
) -> None:
    """Anywhere in data, manifest or list of files: all are refused, or the manifest has another digest."""
    original, folder = dataset(300), tmp_path / "d"
    original.save(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) == 7
    rng, missed = random.Random(11), 0
    for _ in range(1000):
        path = rng.choices(files, [file.stat().st_size for file in files])[0]
        before = path.read_bytes()
        changed = bytearray(before)
        changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
        path.write_bytes(changed)
        try:
            reader = DatasetReader(folder)
            list(reader.tables())
            missed += reader.manifest.digest == original.manifest.digest
        except UnfitInput:
            pass
        path.write_bytes(before)
    assert missed == 0


@pytest.mark.parametrize("fault", ["a part is gone", "two parts have changed places", "a part is there twice"])
def test_parts_that_do_not_add_up_are_refused(small_parts: None, tmp_path: Path, fault: str) -> None:
    dataset(300).save(tmp_path / "d")
    (tmp_path / "d" / layout.FILES).unlink()  # so that the records alone must tell
    one, two = (tmp_path / "d" / "data" / f"part-0000{k}.parquet" for k in (1, 2))
    if fault == "a part is gone":
        two.unlink()
    elif fault == "a part is there twice":
        two.write_bytes(one.read_bytes())
    else:
        first, second = one.read_bytes(), two.read_bytes()
        one.write_bytes(second)
        two.write_bytes(first)
    with pytest.raises(UnfitInput, match=r"changed after the manifest|twice|out of order"):
        list(DatasetReader(tmp_path / "d").tables())


def test_records_out_of_order_or_twice_are_refused_across_tables(tmp_path: Path) -> None:
    whole = dataset(300)
    for first, second, words in (((0, 150), (149, 151), "twice"), ((100, 200), (0, 100), "order")):
        tables = [whole.table.slice(*first), whole.table.slice(*second)]
        with pytest.raises(UnfitInput, match=words):
            write_all(tables, tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_parts_are_bounded_by_bytes_too() -> None:
    wide = pa.schema([("x", pa.fixed_shape_tensor(pa.float32(), (3, 256, 256)))])
    assert layout.part_rows(wide) == 64
    assert layout.part_rows(pa.schema([("x", pa.float64()), ("s", pa.string())])) == layout.PART_ROWS
    assert layout.part_rows(pa.schema([(f"x{k}", pa.float64()) for k in range(1000)])) % 64 == 0


def test_a_label_outside_the_classes_is_refused_in_any_part(small_parts: None, tmp_path: Path) -> None:
    whole = dataset(300)
    labels = np.where(np.arange(300) == 250, 7, 0)
    table = whole.table.set_column(whole.table.column_names.index("label"), "label", pa.array(labels))
    with pytest.raises(UnfitInput, match="outside the classes"):
        write_all([table.slice(0, 200), table.slice(200)], tmp_path / "d")
