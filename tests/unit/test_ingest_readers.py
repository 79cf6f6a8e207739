"""Parquet, NPZ and IDX: equal to independent writers, and closed to what their formats let through."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_cases import joined

from assay import catalog
from assay.config.base import parse
from assay.config.ingest import IngestConfig
from assay.errors import UnfitInput
from assay.ingest.fetch import reader_of
from assay.ingest.rows import Delivery, Rows

RNG = np.random.default_rng(0)


def read(path: Path, labels: Path | None = None, **settings: Any) -> Rows:
    return joined(reader_of(path.name).chunks(Delivery("s/b", path, labels), parse(IngestConfig, settings, "ingest")))


def idx(array: np.ndarray[Any, Any], code: int) -> bytes:
    """IDX as its description words it, big endian."""
    head = struct.pack(">BBBB", 0, 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def test_every_member_has_endings_and_no_two_share_one() -> None:
    endings = [
        ending for name in catalog.names("ingest.readers") for ending in catalog.member("ingest.readers", name).endings
    ]
    assert len(endings) == len(set(endings)) >= 6
    assert catalog.names("ingest.readers") == ["csv", "idx", "images", "npz", "parquet"]


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("a.parquet", "Parquet"),
        ("A.CSV", "Csv"),
        ("a.csv.gz", "Csv"),
        ("a.npz", "Npz"),
        ("t10k-images-idx3-ubyte.gz", "Idx"),
        ("photos/", "Images"),
    ],
)
def test_the_ending_chooses_the_reader(name: str, member: str) -> None:
    assert type(reader_of(f"s3://bucket/{name}")).__name__ == member


def test_an_unknown_ending_names_the_known_ones() -> None:
    with pytest.raises(UnfitInput, match=r"\.csv, .*\.npz, \.parquet"):
        reader_of("data.xlsx")


def test_a_folder_without_its_slash_is_told_of_it(tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match=f"ends in a slash: {tmp_path}/"):
        reader_of(str(tmp_path))


def test_parquet_keeps_types_and_shapes(tmp_path: Path) -> None:
    images = RNG.random((6, 2, 3, 1)).astype(np.float32)
    columns = {
        "a": pa.array(range(6), pa.int32()),
        "b": pa.array([True, False, None] * 2),
        "c": pa.array(list("xyzxyz")).dictionary_encode(),
        "x": pa.FixedShapeTensorArray.from_numpy_ndarray(images),
        "target": pa.array([0.0, 1.0] * 3),
    }
    pq.write_table(pa.table(columns), tmp_path / "b.parquet", row_group_size=2)
    table = read(tmp_path / "b.parquet", label="target").table
    assert table["a"].to_pylist() == list(range(6))
    assert table["b"].to_pylist() == [True, False, None] * 2
    assert table["c"].type == pa.string()
    assert table["c"].to_pylist() == list("xyzxyz")
    np.testing.assert_array_equal(np.concatenate([part.to_numpy_ndarray() for part in table["x"].chunks]), images)
    assert table["label"].type == pa.int64()
    assert table["row"].to_pylist() == list(range(6))


def test_parquet_rows_without_a_label_are_kept_raw(tmp_path: Path) -> None:
    labels = ["a", "b"] * 10
    pq.write_table(pa.table({"f": np.arange(21.0), "label": [*labels, None]}), tmp_path / "b.parquet")
    rows = read(tmp_path / "b.parquet")
    assert [(it.row, it.reason) for it in rows.refused] == [(20, "missing_label")]
    raw = pa.ipc.open_stream(rows.refused[0].data).read_all().to_pylist()
    assert raw == [{"row": 20, "f": 20.0, "label": None}]
    assert rows.table.num_rows == 20


def tensors(cells: list[Any]) -> pa.Array:
    storage = pa.array(cells, pa.list_(pa.uint8(), 2))
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.uint8(), (2,)), storage)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([[1, 2], [3, 4]]), "tensors of fixed shape"),
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2)), "tensors of fixed shape"),
        (pa.array([{"a": 1}, {"a": 2}]), "struct"),
        (pa.array([b"a", b"b"]), "binary"),
        (pa.array([1, 2], pa.decimal128(5)), "decimal"),
        (tensors([[1, 2], [3, None]]), "null images or pixels"),
        (tensors([[1, 2], None]), "null images|Expected all lists"),
    ],
    ids=["list", "fixed list", "struct", "binary", "decimal", "null pixel", "null image"],
)
def test_parquet_columns_no_record_can_have_are_refused(tmp_path: Path, column: pa.Array, words: str) -> None:
    pq.write_table(pa.table({"f": column, "label": ["a", "b"]}), tmp_path / "b.parquet")
    with pytest.raises(UnfitInput, match=words):
        read(tmp_path / "b.parquet")


@pytest.mark.parametrize("label", [[0.5, 1.0], [b"a", b"b"], [[1], [2]]], ids=["fraction", "binary", "list"])
def test_labels_are_text_or_whole_numbers(tmp_path: Path, label: list[Any]) -> None:
    pq.write_table(pa.table({"f": [1.0, 2.0], "label": label}), tmp_path / "b.parquet")
    with pytest.raises(UnfitInput, match="text or whole numbers"):
        read(tmp_path / "b.parquet")


def test_parquet_limits_hold_before_all_is_unpacked(tmp_path: Path) -> None:
    pq.write_table(pa.table({"f": np.zeros(300_000), "label": np.arange(300_000) % 2}), tmp_path / "b.parquet")
    assert (tmp_path / "b.parquet").stat().st_size < 200_000
    with pytest.raises(UnfitInput, match="unpacked"):
        read(tmp_path / "b.parquet", limits={"file_bytes": 1_000_000})
    with pytest.raises(UnfitInput, match="300000 rows"):
        read(tmp_path / "b.parquet", limits={"rows": 1000})


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "u1", "?"])
def test_npz_reads_what_numpy_wrote(tmp_path: Path, order: Any, dtype: str) -> None:
    x = np.asarray(RNG.integers(0, 2, (5, 3)), dtype=dtype, order=order)
    np.savez_compressed(tmp_path / "b.npz", x=x, y=np.array(["p", "q", "p", "q", "p"]))
    table = read(tmp_path / "b.npz").table
    np.testing.assert_array_equal(np.stack([table[f"x{k}"].to_numpy() for k in range(3)], axis=1), x)
    assert table["label"].to_pylist() == list("pqpqp")


def test_npz_images_become_one_tensor_column(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)
    np.savez(tmp_path / "b.npz", x=x, y=np.arange(5, dtype=np.int32))
    table = read(tmp_path / "b.npz").table
    np.testing.assert_array_equal(table["image"].chunk(0).to_numpy_ndarray(), x)


class Canary:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (self.path.write_text, ("ran",))


def test_npz_is_never_unpickled(tmp_path: Path) -> None:
    x = np.empty(2, dtype=object)
    x[:] = [Canary(tmp_path / "canary")] * 2
    np.savez(tmp_path / "b.npz", x=x, y=np.arange(2))
    with pytest.raises(UnfitInput, match="never unpickled"):
        read(tmp_path / "b.npz")
    assert not (tmp_path / "canary").exists()


def lying_npz(path: Path, shape: str) -> None:
    """An archive whose array x claims a shape over a few bytes."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    sink = io.BytesIO()
    np.save(sink, np.arange(2))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"\0" * 16)
        archive.writestr("y.npy", sink.getvalue())


@pytest.mark.parametrize("shape", ["(2, 4611686018427387904)", "(2, 1000000000000)", "(2, 3)", "(-1, 2)"])
def test_npz_headers_that_promise_other_bytes_reserve_nothing(tmp_path: Path, shape: str) -> None:
    lying_npz(tmp_path / "b.npz", shape)
    with pytest.raises(UnfitInput, match="fits its bytes"):
        read(tmp_path / "b.npz")


def test_npz_bombs_and_other_arrays_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros((1000, 1000)), y=np.arange(1000))
    with pytest.raises(UnfitInput, match="bytes unpacked"):
        read(tmp_path / "b.npz", limits={"file_bytes": 1_000_000})
    np.savez(tmp_path / "c.npz", data=np.zeros((2, 2)), y=np.arange(2))
    with pytest.raises(UnfitInput, match="exactly x and y"):
        read(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("code", "dtype"), [(8, "u1"), (9, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")]
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_reads_every_type(tmp_path: Path, code: int, dtype: str, pack: Any) -> None:
    x = RNG.integers(0, 100, (4, 3, 2)).astype(dtype)
    (tmp_path / "x-ubyte").write_bytes(pack(idx(x, code)))
    (tmp_path / "y-ubyte").write_bytes(pack(idx(np.arange(4, dtype="u1"), 8)))
    table = read(tmp_path / "x-ubyte", tmp_path / "y-ubyte").table
    np.testing.assert_array_equal(table["image"].chunk(0).to_numpy_ndarray(), x)
    assert table["label"].to_pylist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "a header"),
        (b"\0\0\x08", "a header"),
        (b"\0\1\x08\1\0\0\0\0", "a header"),
        (b"\0\0\x07\1\0\0\0\0", "a header"),
        (b"\0\0\x08\3\0\0\0\1", "header of 16"),
        (b"\0\0\x08\2\xff\xff\xff\xff\xff\xff\xff\xff", "shape"),
        (b"\0\0\x08\2\0\0\0\2\0\0\0\2abc", "shape"),
        (b"\0\0\x08\2\0\0\0\2\0\0\0\2abcde", "shape"),
        (b"\x1f\x8b\x08broken", "read whole"),
    ],
)
def test_idx_headers_account_for_every_byte(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "x-ubyte").write_bytes(data)
    (tmp_path / "y-ubyte").write_bytes(idx(np.arange(2, dtype="u1"), 8))
    with pytest.raises(UnfitInput, match=words):
        read(tmp_path / "x-ubyte", tmp_path / "y-ubyte")


def test_idx_needs_as_many_labels_as_images(tmp_path: Path) -> None:
    (tmp_path / "x-ubyte").write_bytes(idx(np.zeros((3, 2, 2), "u1"), 8))
    (tmp_path / "y-ubyte").write_bytes(idx(np.arange(2, dtype="u1"), 8))
    with pytest.raises(UnfitInput, match="3 images and 2 labels"):
        read(tmp_path / "x-ubyte", tmp_path / "y-ubyte")
    with pytest.raises(UnfitInput, match="labels_uri"):
        read(tmp_path / "x-ubyte")


def test_parquet_times_have_a_zone_and_become_utc(tmp_path: Path) -> None:
    stamps = pa.array([0, 10**6, 4 * 10**15, None], pa.timestamp("us"))
    for zone in ("UTC", "Europe/Berlin"):
        pq.write_table(
            pa.table({"t": stamps.cast(pa.timestamp("us", zone)), "label": list("abab")}), tmp_path / "t.parquet"
        )
        rows = read(tmp_path / "t.parquet", latest="2026-01-01T00:00:00Z", limits={"refused_share": 0.5})
        assert rows.table["t"].type == pa.timestamp("us", "UTC")
        assert rows.table["row"].to_pylist() == [0, 1, 3]
        assert [(it.row, it.reason) for it in rows.refused] == [(2, "future_time")]
    pq.write_table(pa.table({"t": stamps, "label": list("abab")}), tmp_path / "t.parquet")
    with pytest.raises(UnfitInput, match="times without a zone"):
        read(tmp_path / "t.parquet")


@pytest.mark.shared_data
def test_fashion_mnist_reads_as_published(shared_data: Path) -> None:
    """Reference: 10,000 test images of 28x28, 1,000 of each class."""
    folder = shared_data / "fashion_mnist"
    table = read(folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz").table
    raw = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    assert table["image"].chunk(0).to_numpy_ndarray().tobytes() == raw
    assert np.bincount(table["label"].to_numpy()).tolist() == [1000] * 10


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "label", "shape"),
    [("elec.csv", "class", (45_312, 7)), ("credit-card-clients.csv", "default payment", (30_000, 24))],
)
def test_real_tables_read_as_pandas_reads_them(
    shared_data: Path, name: str, label: str, shape: tuple[int, int]
) -> None:
    import pandas as pd

    path = shared_data / "tabular" / name
    rows, frame = read(path, label=label), pd.read_csv(path)
    assert rows.refused == ()
    assert frame.shape == shape
    for column in frame.columns.drop(label):
        np.testing.assert_array_equal(rows.table[column].to_numpy(), frame[column].to_numpy(np.float64))
    assert rows.table["label"].to_pylist() == frame[label].astype(str).tolist()
