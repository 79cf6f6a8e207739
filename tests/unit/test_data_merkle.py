"""The Merkle root names records: against an independent implementation, and against any change."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.dataset import Dataset
from assay.data.manifest import BatchShare, History
from assay.data.merkle import block_digests, merkle_root, row_digests
from assay.errors import UnfitInput

FORMATS = {"int64": "<q", "float": "<f", "double": "<d", "bool": "<?", "timestamp[us]": "<q", "uint8": "<B"}
HISTORY = History("ingest", "kept", (BatchShare("v", "b", "0" * 64, 0),))


def table(rows: int, seed: int = 0) -> pa.Table:
    """Every kind of column, with nulls, empty text and letters of several bytes."""
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "i": pa.array(rng.integers(-(2**62), 2**62, rows), pa.int64()),
            "f": pa.array(rng.normal(size=rows).astype(np.float32), mask=rng.random(rows) < 0.3),
            "d": pa.array(rng.normal(size=rows)),
            "b": pa.array(rng.random(rows) < 0.5, mask=rng.random(rows) < 0.3),
            "s": pa.array([None if k % 7 == 3 else "éz"[: k % 3] * (k % 5) for k in range(rows)], pa.string()),
            "t": pa.array(rng.integers(0, 2**40, rows), pa.timestamp("us"), mask=rng.random(rows) < 0.3),
            "x": pa.FixedShapeTensorArray.from_numpy_ndarray(rng.integers(0, 256, (rows, 2, 3)).astype(np.uint8)),
            "e": pa.array([f"{k % 4}" for k in range(rows)]).dictionary_encode(),
        }
    )


def reference_block(rows: pa.Table) -> bytes:
    """The bytes of one block, cell by cell, as the module's docstring words them."""
    fixed, text = b"", b""
    for name in rows.column_names:
        kind, cells = rows[name].type, rows[name]
        if isinstance(kind, pa.FixedShapeTensorType):
            fixed += b"".join(bytes(cell) for chunk in cells.chunks for cell in chunk.storage.to_pylist())
            continue
        values = (cells.cast(pa.int64()) if pa.types.is_timestamp(kind) else cells).to_pylist()
        valid = bytes(value is not None for value in values)
        if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
            encoded = [(value or "").encode() for value in values]
            text += valid + b"".join(struct.pack("<i", len(value)) for value in encoded) + b"".join(encoded)
        else:
            fixed += valid + b"".join(struct.pack(FORMATS[str(kind)], value or 0) for value in values)
    return fixed + text


def reference_root(rows: pa.Table) -> bytes:
    """RFC 6962, section 2.1, written from its recursion."""

    def tree(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return leaves[0]
        split = max(2**k for k in range(40) if 2**k < len(leaves))
        return hashlib.sha256(b"\x01" + tree(leaves[:split]) + tree(leaves[split:])).digest()

    blocks = [rows.slice(start, 64) for start in range(0, rows.num_rows, 64)]
    return tree([hashlib.sha256(b"\x00" + reference_block(block)).digest() for block in blocks])


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 128, 200, 449])
def test_root_equals_an_independent_implementation(rows: int) -> None:
    assert merkle_root(block_digests(table(rows))) == reference_root(table(rows))


def test_root_equals_it_over_many_stretches_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.data.merkle._STRETCH_BYTES", 3 * 64 * 70)
    assert merkle_root(block_digests(table(1000))) == reference_root(table(1000))


def test_slices_and_chunks_do_not_matter() -> None:
    whole = table(300)
    pieces = pa.concat_tables([whole.slice(0, 7), whole.slice(7, 100), whole.slice(107)])
    assert block_digests(pieces) == block_digests(whole)
    part = whole.slice(33, 150)
    assert block_digests(part) == block_digests(pa.concat_tables([part]).combine_chunks()) != block_digests(whole)
    assert merkle_root(block_digests(part)) == reference_root(part)


def test_row_digest_is_the_salted_digest_of_one_row() -> None:
    rows = table(70)
    expected = [hashlib.sha256(b"salt" + reference_block(rows.slice(k, 1))).digest() for k in range(70)]
    assert row_digests(rows, b"salt") == expected


def test_no_rows_and_no_columns_have_no_leaves() -> None:
    assert block_digests(table(3).slice(0, 0)) == []
    assert row_digests(pa.table({})) == []
    assert merkle_root([]) == hashlib.sha256(b"").digest()


def test_published_roots_of_rfc_6962() -> None:
    """Certificate Transparency's reference tree: its eight inputs and the roots of the first 1, 2, 3, 5, 7 and 8."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    leaves = [hashlib.sha256(b"\x00" + bytes.fromhex(text)).digest() for text in inputs]
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    assert {count: merkle_root(leaves[:count]).hex() for count in roots} == roots


@settings(max_examples=60)
@given(row=st.integers(0, 199), column=st.sampled_from(["i", "f", "d", "b", "s", "t", "x", "e"]), kind=st.booleans())
def test_root_changes_with_any_cell(row: int, column: str, kind: bool) -> None:
    """Property: another value, or a null in place of a value, in any one cell."""
    before = table(200)
    values: list[Any] = before[column].to_pylist()
    if column == "x":
        pixels = before[column].chunk(0).to_numpy_ndarray().copy()
        pixels[row, 1, 2] ^= 1
        changed: Any = pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)
    else:
        other = {"s": "other", "e": "9", "b": values[row] is False, "t": 7}.get(column, 7)
        values[row] = None if kind and values[row] is not None else other
        changed = pa.array(values, before[column].type)
    after = before.set_column(before.column_names.index(column), column, changed)
    assert merkle_root(block_digests(after)) != merkle_root(block_digests(before))


def test_text_cannot_flow_from_one_cell_into_the_next() -> None:
    one, two = pa.table({"a": ["ab", ""], "b": ["c", "d"]}), pa.table({"a": ["a", "b"], "b": ["c", "d"]})
    three = pa.table({"a": ["ab", "c"], "b": ["", "d"]})
    assert len({merkle_root(block_digests(rows)) for rows in (one, two, three)}) == 3


@settings(max_examples=25)
@given(order=st.permutations(range(130)))
def test_row_order_is_irrelevant_to_a_dataset(order: list[int]) -> None:
    """Property: record ids bring the records into one order, whatever the order they came in."""
    rows = table(130).drop_columns(["e"])
    keyed = rows.add_column(0, "row", pa.array(range(130))).add_column(0, "batch", pa.array(["v/b"] * 130))
    keyed = keyed.append_column("label", pa.array([k % 2 for k in range(130)]))
    expected = Dataset.make(keyed, ["n", "y"], HISTORY).manifest
    assert Dataset.make(keyed.take(pa.array(order)), ["n", "y"], HISTORY).manifest == expected


def test_a_null_image_is_refused() -> None:
    kind = pa.fixed_shape_tensor(pa.uint8(), (1, 2))
    storage = pa.array([[1, 2], None], pa.list_(pa.uint8(), 2))
    images = pa.ExtensionArray.from_storage(kind, storage)
    with pytest.raises(UnfitInput, match="null images"):
        block_digests(pa.table({"x": images}))
