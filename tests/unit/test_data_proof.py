"""Membership of records: members verify, everything else does not, and no changed byte goes unseen."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay import canonical
from assay.cli.main import run
from assay.data.dataset import Dataset
from assay.data.manifest import BatchShare, History
from assay.data.merkle import audit_path, merkle_root, path_root
from assay.data.proof import Proof, prove, read_proof, record_digest
from assay.data.records import RecordId
from assay.errors import AssayError, Refused, UnfitInput
from assay.lineage import put_dataset
from assay.trace.index import Index
from assay.trace.ref import Scope
from assay.workspace import Workspace

ROWS = 1000


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Rows 0, 2, 4, ... of one batch and 1, 3, 5, ... of another."""
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "batch": ["a/x"] * (ROWS // 2) + ["b/y"] * (ROWS // 2),
            "row": [*range(0, ROWS, 2), *range(1, ROWS, 2)],
            "f": rng.normal(size=ROWS),
            "t": pa.array([None if k % 7 == 0 else "é" * (k % 5) for k in range(ROWS)]),
            "label": rng.integers(0, 3, ROWS),
        }
    )
    shares = (BatchShare("a", "x", "0" * 64, 0), BatchShare("b", "y", "1" * 64, 0))
    return Dataset.make(table, ("p", "q", "r"), History("ingest", "kept", shares))


@pytest.mark.slow
def test_a_thousand_members_verify_and_a_thousand_others_do_not(dataset: Dataset) -> None:
    digest = dataset.manifest.digest
    for name in dataset.record_ids:
        assert prove(dataset, RecordId.parse(name)).verify(digest)["record"] == name
    others = [f"{batch}:{row}" for batch, odd in (("a/x", 1), ("b/y", 0)) for row in range(odd, ROWS, 2)]
    assert len(others) == 1000
    for name in others:
        with pytest.raises(Refused, match="not in dataset"):
            prove(dataset, RecordId.parse(name))
    for k, name in enumerate(others):  # a good proof, renamed
        good = prove(dataset, RecordId.parse(dataset.record_ids[k]))
        with pytest.raises(Refused, match="no such record in its block"):
            replace(good, record=RecordId.parse(name)).verify(digest)


def leaf(number: int) -> bytes:
    return hashlib.sha256(bytes([0, *number.to_bytes(4)])).digest()


@given(count=st.integers(1, 70), data=st.data())
def test_every_path_leads_to_the_root_and_no_other_leaf_place_or_path_does(count: int, data: st.DataObject) -> None:
    leaves = [leaf(k) for k in range(count)]
    place = data.draw(st.integers(0, count - 1))
    path, root = audit_path(leaves, place), merkle_root(leaves)
    assert path_root(leaves[place], place, count, path) == root
    assert len(path) <= max(0, (count - 1).bit_length())
    wrong = data.draw(st.integers(0, count - 1).filter(lambda other: count == 1 or other != place))
    for given_ in (
        (leaf(99), place, count, path),
        (leaves[place], place, count, [*path, leaf(3)]),
        (leaves[place], place, count, path[:-1]),
        (leaves[place], wrong, count, path),
    ):
        if given_ == (leaves[place], place, count, path):
            continue
        try:
            got = path_root(*given_)
        except Refused:
            continue
        assert got != root


def changed(proof: Proof, **columns: object) -> Proof:
    block = proof.block
    for name, values in columns.items():
        block = block.set_column(block.column_names.index(name), name, values)
    return replace(proof, block=block)


def test_a_forged_proof_is_refused(dataset: Dataset) -> None:
    good = prove(dataset, RecordId("a", "x", 100))
    digest, ok = dataset.manifest.digest, good.verify()
    assert ok["dataset"]["digest"] == digest
    cells = good.block["f"].to_numpy().copy()
    cells[3] += 1e-12
    short = replace(good, block=good.block.slice(1))
    last = prove(dataset, RecordId.parse(dataset.record_ids[-1]))
    other = replace(dataset.manifest, history=replace(dataset.manifest.history, step="other"))
    retyped = changed(good, row=good.block["row"].cast(pa.uint64()))
    for forged in (
        changed(good, f=pa.array(cells)),
        changed(good, row=pa.array(np.arange(64) + 1)),
        retyped,
        short,
        replace(good, path=good.path[::-1]),
        replace(good, path=good.path[:-1]),
        replace(good, place=good.place + 1),
        replace(last, place=0),
        replace(good, manifest=other),
    ):
        with pytest.raises(Refused):
            forged.verify(digest)


def test_a_proof_travels_alone_and_holds_only_its_block(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset.save(tmp_path / "d")
    proof, digest = tmp_path / "proof.json", dataset.manifest.digest
    given_ = ["verify", "record:b/y:501", "--dataset", str(tmp_path / "d"), "--proof", str(proof), "--json"]
    assert run(given_) == 0
    document = json.loads(capsys.readouterr().out)
    row = dataset.table.slice(dataset.record_ids.index("b/y:501"), 1)
    assert document["digest"] == record_digest(row)
    assert read_proof(proof).block.num_rows <= 64
    assert b"a/x" not in read_proof(proof).to_json()["block"].encode()
    assert run(["verify", str(proof), "--digest", digest]) == 0
    assert run(["verify", str(proof), "--digest", "0" * 64]) == 1
    assert run(["verify", "record:b/y:500", "--dataset", str(tmp_path / "d")]) == 1
    assert run(["verify", "record:b/y:501"]) == 2
    assert run(["verify", "record:b/y:501", "--dataset", str(tmp_path / "d"), "--digest", "0" * 64]) == 1
    good = canonical.loads(proof.read_bytes())
    for key, value in (("place", "x"), ("block", "?"), ("path", ["zz"]), ("manifest", {}), ("record", "a")):
        proof.write_bytes(canonical.dumps(good | {key: value}))
        with pytest.raises(UnfitInput):
            read_proof(proof)
        assert run(["verify", str(proof)]) == 1


@pytest.mark.slow
def test_a_thousand_changed_bytes_of_data_or_manifest_are_all_found(dataset: Dataset, tmp_path: Path) -> None:
    """Anywhere: records, encodings Parquet would forgive, history, list of files."""
    dataset.save(tmp_path / "d")
    files = sorted(path for path in (tmp_path / "d").rglob("*") if path.is_file())
    assert [path.name for path in files] == ["part-00000.parquet", "files.json", "manifest.json"]
    good = {path: path.read_bytes() for path in files}
    rng, digest = random.Random(5), dataset.manifest.digest
    for _ in range(1000):
        path = rng.choice(files)
        data = bytearray(good[path])
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        path.write_bytes(data)
        try:
            Dataset.load(tmp_path / "d")
        except AssayError:
            pass
        else:
            raise AssertionError(f"a changed byte of {path.name} was not found")
        path.write_bytes(good[path])
    assert Dataset.load(tmp_path / "d").manifest.digest == digest


def test_a_dataset_without_a_list_of_files_is_still_read(dataset: Dataset, tmp_path: Path) -> None:
    dataset.save(tmp_path / "d")
    (tmp_path / "d" / "files.json").unlink()
    assert Dataset.load(tmp_path / "d").manifest == dataset.manifest


def test_a_list_of_records_with_the_right_counts_and_other_rows_is_found_by_trace(
    dataset: Dataset, workspace: Workspace
) -> None:
    """What counts alone let through: record 100 of the batch replaced by one that is not in the dataset."""
    import pyarrow.parquet as pq

    put_dataset(workspace.ledger, dataset)
    digest, scope = dataset.manifest.digest, Scope("a", "x", 100)
    index = Index.read(workspace.ledger, workspace.keyring)
    assert (index.records_of(digest, scope), index.problems) == (1, [])
    place = Path(workspace.ledger_uri) / index.record_list_of(digest)
    table = pq.read_table(place)
    rows = [101 if row == 100 else row for row in table["row"].to_pylist()]
    pq.write_table(table.set_column(1, "row", pa.array(rows)), place)
    index = Index.read(workspace.ledger, workspace.keyring)
    assert index.records_of(digest, scope) == 500  # what the manifest counts: nobody is cleared by a broken list
    assert [problem["name"] for problem in index.problems] == [index.record_list_of(digest)]
