"""A name is bound once, for ever, in a folder and in a bucket alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from s3_server import credentials, s3_server

from assay.data.object_store import client, split_uri
from assay.errors import Conflict, UnfitInput
from assay.ledger import FileLedger, Ledger, open_ledger, put_document, put_folder, require_ledger_name
from assay.s3_ledger import S3Ledger


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A real HTTP server that speaks S3."""
    with s3_server() as address:
        yield address


@pytest.fixture(params=["folder", "bucket"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "folder":
        return str(tmp_path / "ledger")
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("endpoint"))
    credentials(monkeypatch)
    client().create_bucket(Bucket="assay-ledger")
    return f"s3://assay-ledger/{os.getpid()}-{tmp_path.name.replace('_', '-')}"


@pytest.fixture
def ledger(uri: str) -> Ledger:
    return open_ledger(uri)


def test_the_uri_chooses_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert isinstance(open_ledger("s3://bucket/below"), S3Ledger)
    assert isinstance(open_ledger(str(tmp_path)), FileLedger)
    spaced = open_ledger((tmp_path / "my ledger").as_uri())
    assert isinstance(spaced, FileLedger)
    assert spaced.root == tmp_path / "my ledger"
    with pytest.raises(UnfitInput, match="file:// or s3://"):
        open_ledger("https://host/ledger")


def test_a_name_is_bound_once(ledger: Ledger) -> None:
    assert ledger.put("batches/a/b.json", b"one") is True
    assert ledger.put("batches/a/b.json", b"one") is False
    with pytest.raises(Conflict, match="for ever"):
        ledger.put("batches/a/b.json", b"two")
    assert ledger.get("batches/a/b.json") == b"one"


def test_another_opening_sees_the_same_names(ledger: Ledger, uri: str) -> None:
    ledger.put("a/x", b"1")
    again = open_ledger(uri)
    assert again.put("a/x", b"1") is False
    with pytest.raises(Conflict):
        again.put("a/x", b"2")


def test_bytes_come_back_as_they_were(ledger: Ledger) -> None:
    for name, data in (("empty", b""), ("large", bytes(range(256)) * 20_000)):
        ledger.put(name, data)
        assert ledger.get(name) == data


def test_a_name_that_is_not_there_is_an_input_error(ledger: Ledger) -> None:
    with pytest.raises(UnfitInput, match="no/such"):
        ledger.get("no/such")
    assert ledger.names() == []
    assert ledger.names("no/") == []


def test_names_are_sorted_and_below_the_prefix_only(ledger: Ledger) -> None:
    for name in ("b/2", "a/1", "a/1-more/x", "ab/3"):
        ledger.put(name, b"")
    assert ledger.names() == ["a/1", "a/1-more/x", "ab/3", "b/2"]
    assert ledger.names("a/") == ["a/1", "a/1-more/x"]


def test_more_names_than_one_listing_are_all_found(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.data.object_store.PAGE_NAMES", 3)
    many = [f"n/{number}" for number in range(10)]
    for name in many:
        ledger.put(name, b"")
    assert ledger.names("n/") == many


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a/.b", "a b", "a\n", "é", "a" * 200])
def test_names_that_could_leave_the_ledger_or_hide_in_it_are_refused(ledger: Ledger, name: str) -> None:
    for call in (lambda: ledger.put(name, b""), lambda: ledger.get(name)):
        with pytest.raises(UnfitInput, match="ledger name"):
            call()


@given(st.text(alphabet="ab./-_@\\ \n\0é", max_size=12))
def test_an_accepted_name_stays_below_the_root(name: str) -> None:
    """Property: every name that is let through is a plain path below."""
    try:
        accepted = require_ledger_name(name)
    except UnfitInput:
        return
    root = Path("/ledger")
    assert (root / accepted).resolve().is_relative_to(root)
    assert not any(part.startswith(".") for part in Path(accepted).parts)


def test_documents_and_folders_are_bound_by_digest(ledger: Ledger, tmp_path: Path) -> None:
    digest = put_document(ledger, "d.json", {"b": 1, "a": [1.5]})
    assert ledger.get("d.json") == b'{"a":[1.5],"b":1}'
    assert len(digest) == 64
    (tmp_path / "f" / "sub").mkdir(parents=True)
    (tmp_path / "f" / "one").write_bytes(b"1")
    (tmp_path / "f" / "sub" / "two").write_bytes(b"2")
    files = put_folder(ledger, "models/m", tmp_path / "f")
    assert list(files) == ["one", "sub/two"]
    assert ledger.get("models/m/sub/two") == b"2"


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "s3://b/k?x=1", "s3://b/k#f", "http://b/k"])
def test_object_uris_are_a_bucket_and_a_key(uri: str) -> None:
    with pytest.raises(UnfitInput, match="s3://bucket/key"):
        split_uri(uri)
