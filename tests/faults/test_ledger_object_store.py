"""Object storage that overwrites, forgets, stalls or breaks off: an error of the right kind, never a short file."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import REAL, credentials, s3_server

from assay.config.ingest import IngestConfig, SourceConfig, SourceRule
from assay.data import object_store
from assay.data.dataset import Dataset
from assay.data.object_store import client, download
from assay.errors import Conflict, Refused, UnfitInput, Unreachable
from assay.ingest.sign import sign_batch
from assay.ingest.step import ingest
from assay.s3_ledger import S3Ledger

BODY = b"0123456789" * 100


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(autouse=True)
def _fast_and_known(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials(monkeypatch)
    monkeypatch.setattr(object_store, "ATTEMPTS", 2)
    monkeypatch.setattr(object_store, "TIMEOUT_S", 10 if REAL else 1)


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    name = f"b-{hashlib.sha256(f'{request.node.name}{os.getpid()}'.encode()).hexdigest()[:12]}"
    client().create_bucket(Bucket=name)
    return name


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD with one object; the server's ``misbehave`` may do otherwise. Accepts every PUT."""

    def _answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "ETag": '"e"', **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self._answer(BODY)

    def do_GET(self) -> None:
        self.server.gets += 1  # type: ignore[attr-defined]
        self.server.misbehave(self)  # type: ignore[attr-defined]

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(b"")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def store(misbehave: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that left is no news
    server.daemon_threads = True
    server.misbehave, server.gets = misbehave, 0  # type: ignore[attr-defined]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def short(handler: Any) -> None:
    """Promises all, sends half, hangs up."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(BODY)))
    handler.end_headers()
    handler.wfile.write(BODY[: len(BODY) // 2])


def wrong_checksum(handler: Any) -> None:
    handler._answer(BODY, x_amz_checksum_crc32="AAAAAA==")


def hang(handler: Any) -> None:
    time.sleep(3)


def test_a_store_that_does_not_enforce_create_once_is_refused_on_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        store(lambda handler: handler._answer(BODY), monkeypatch),
        pytest.raises(UnfitInput, match="does not enforce create-once"),
    ):
        S3Ledger("s3://bucket/ledger").put("a", b"1")


def test_the_proof_leaves_no_name_behind(bucket: str) -> None:
    ledger = S3Ledger(f"s3://{bucket}/ledger")
    assert ledger.put("a", b"1")
    assert ledger.names() == ["a"]


@pytest.mark.parametrize(
    ("misbehave", "error"),
    [
        (lambda handler: handler._answer(b"", 503), Unreachable),
        (lambda handler: handler._answer(b"", 429), Unreachable),
        (lambda handler: handler._answer(b"", 403), UnfitInput),
        (short, Unreachable),
        (wrong_checksum, Unreachable),
        pytest.param(hang, Unreachable, marks=pytest.mark.slow),
    ],
    ids=["503", "429", "403", "truncated", "wrong checksum", "hang"],
)
def test_a_broken_answer_is_never_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, misbehave: Callable[[Any], None], error: type[Exception]
) -> None:
    with store(misbehave, monkeypatch):
        before = time.monotonic()
        with pytest.raises(error):
            download("s3://bucket/key", tmp_path / "file", 10_000)
        with pytest.raises(error):
            S3Ledger("s3://bucket/ledger").get("key")
        assert time.monotonic() - before < 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [short, wrong_checksum], ids=["truncated", "wrong checksum"])
def test_an_answer_that_breaks_off_once_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: Callable[[Any], None]
) -> None:
    def once(handler: Any) -> None:
        (first if handler.server.gets == 1 else lambda it: it._answer(BODY))(handler)

    with store(once, monkeypatch) as server:
        assert download("s3://bucket/key", tmp_path / "file", 10_000).read_bytes() == BODY
        assert server.gets == 2


def test_nobody_at_the_address_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for call in (
        lambda: S3Ledger("s3://b/l").put("a", b""),
        lambda: S3Ledger("s3://b/l").names(),
        lambda: download("s3://b/k", tmp_path / "f", 9),
    ):
        with pytest.raises(Unreachable):
            call()


def test_no_such_bucket_or_key_is_an_input_error(tmp_path: Path, bucket: str) -> None:
    with pytest.raises(UnfitInput, match="NoSuchBucket"):
        S3Ledger("s3://nobody-has-this/l").put("a", b"")
    with pytest.raises(UnfitInput, match="Is the bucket or key there"):
        download(f"s3://{bucket}/nothing", tmp_path / "f", 9)


def test_an_object_over_the_limit_is_not_fetched(tmp_path: Path, bucket: str) -> None:
    client().put_object(Bucket=bucket, Key="k", Body=BODY)
    with pytest.raises(UnfitInput, match="at most 999"):
        download(f"s3://{bucket}/k", tmp_path / "f", 999)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("versions", [True, False], ids=["versioned", "unversioned"])
def test_an_object_replaced_while_it_is_fetched_is_the_first_version_or_an_error(
    tmp_path: Path, bucket: str, versions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3, fetch = client(), object_store._stream
    if versions:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=bucket, Key="k", Body=BODY)

    def replaced_first(*given: Any, **named: Any) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=BODY[::-1])
        fetch(*given, **named)

    monkeypatch.setattr(object_store, "_stream", replaced_first)
    if versions:
        assert download(f"s3://{bucket}/k", tmp_path / "f", 10_000).read_bytes() == BODY
    else:
        with pytest.raises(UnfitInput, match="replaced while it was read"):
            download(f"s3://{bucket}/k", tmp_path / "f", 10_000)
        assert list(tmp_path.iterdir()) == []


def test_ingest_reads_batches_from_a_bucket_and_binds_them_in_a_bucket(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"f": np.arange(20.0), "label": ["a", "b"] * 10}), tmp_path / "v.parquet")
    client().put_object(Bucket=bucket, Key="in/v.parquet", Body=(tmp_path / "v.parquet").read_bytes())
    monkeypatch.setenv("ASSAY_LEDGER", f"s3://{bucket}/ledger")
    places: dict[str, Any] = {name: tmp_path / name for name in ("dataset", "quarantine")} | {
        "calibration": None,
        "holdout": None,
    }
    source = SourceConfig(name="v", uri=f"s3://{bucket}/in/v.parquet")
    ingest([source], IngestConfig(), **places)
    made = Dataset.load(tmp_path / "dataset")
    assert made.table["f"].to_pylist() == list(np.arange(20.0))
    assert made.manifest.history.sources[0].sha256 == hashlib.sha256((tmp_path / "v.parquet").read_bytes()).hexdigest()
    names = S3Ledger(f"s3://{bucket}/ledger").names()
    assert "batches/v/v.json" in names
    assert f"manifests/{made.manifest.digest}.json" in names


def deliver(folder: Path, scale: float) -> bytes:
    pq.write_table(pa.table({"f": np.arange(20.0) * scale, "label": ["a", "b"] * 10}), folder / "v.parquet")
    return (folder / "v.parquet").read_bytes()


def take(uri: str, out: Path) -> dict[str, Any]:
    places: dict[str, Any] = {name: out / name for name in ("dataset", "quarantine")}
    source = SourceConfig(name="v", batch="b", uri=uri)
    return ingest([source], IngestConfig(), calibration=None, holdout=None, **places)


@pytest.mark.parametrize("versions", [True, False], ids=["versioned", "unversioned"])
def test_r11_an_object_overwritten_between_two_runs_is_a_conflict_and_a_pinned_version_is_the_first(
    tmp_path: Path, bucket: str, versions: bool
) -> None:
    s3, uri = client(), f"s3://{bucket}/v.parquet"
    if versions:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=bucket, Key="v.parquet", Body=deliver(tmp_path, 1))
    first = take(uri, tmp_path / "one")
    s3.put_object(Bucket=bucket, Key="v.parquet", Body=deliver(tmp_path, 2))
    with pytest.raises(Conflict, match="for ever"):
        take(uri, tmp_path / "two")
    assert not (tmp_path / "two").exists()
    version = first["batches"][0]["versions"].get("data", "")
    assert bool(version) == versions
    if versions:
        s3.delete_object(Bucket=bucket, Key="v.parquet")
        again = take(f"{uri}?versionId={version}", tmp_path / "two")
        assert again["dataset"]["digest"] == first["dataset"]["digest"]


def test_r12_an_object_deleted_or_without_that_version_is_an_input_error(tmp_path: Path, bucket: str) -> None:
    s3 = client()
    s3.put_object(Bucket=bucket, Key="v.parquet", Body=deliver(tmp_path, 1))
    for uri in (
        f"s3://{bucket}/v.parquet?versionId=nothing",
        f"s3://{bucket}/v.parquet?acl",
        f"s3://{bucket}/gone.csv",
    ):
        with pytest.raises(UnfitInput):
            take(uri, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_an_object_uploaded_in_parts_is_its_bytes_whatever_its_entity_tag(tmp_path: Path, bucket: str) -> None:
    from boto3.s3.transfer import TransferConfig

    body = np.random.default_rng(0).bytes(11 * 2**20)
    (tmp_path / "in").write_bytes(body)
    parts = TransferConfig(multipart_threshold=5 * 2**20, multipart_chunksize=5 * 2**20, use_threads=False)
    client().upload_file(str(tmp_path / "in"), bucket, "k", Config=parts)
    assert client().head_object(Bucket=bucket, Key="k")["ETag"].endswith('-3"')
    assert download(f"s3://{bucket}/k", tmp_path / "out", 2**30).read_bytes() == body


def test_an_object_is_never_held_in_memory_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = bytes(48 * 2**20)
    monkeypatch.setattr(Handler, "do_HEAD", lambda handler: handler._answer(body))
    with store(lambda handler: handler._answer(body), monkeypatch):
        tracemalloc.start()
        try:
            download("s3://bucket/key", tmp_path / "f", 2**30)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert (tmp_path / "f").stat().st_size == len(body)
    assert peak < 16 * 2**20


def test_a_folder_of_images_in_a_bucket_is_the_folder(tmp_path: Path, bucket: str) -> None:
    from PIL import Image

    rng = np.random.default_rng(1)
    for k in range(6):
        path = tmp_path / "in" / ("cat" if k % 2 else "ant") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(path)
        client().put_object(Bucket=bucket, Key=f"in/photos/{path.parent.name}/{path.name}", Body=path.read_bytes())
    here, there = take(f"{tmp_path / 'in'}/", tmp_path / "a"), take(f"s3://{bucket}/in/photos/", tmp_path / "b")
    assert here["dataset"]["digest"] == there["dataset"]["digest"]
    client().put_object(Bucket=bucket, Key="in/photos/ant/../../x.png", Body=b"")
    with pytest.raises(UnfitInput, match="plain relative paths"):
        take(f"s3://{bucket}/in/photos/", tmp_path / "c")


def test_a_supplier_signs_and_delivers_to_a_bucket(tmp_path: Path, bucket: str) -> None:
    """Prefix, signature and version of an object, together; the neighbour's prefix is not the supplier's."""
    deliver(tmp_path, 1)
    signed = sign_batch([tmp_path / "v.parquet"], source="v", batch="b", key=str(tmp_path / "k.pem"), new_key=True)
    for key in ("in/v/v.parquet", "in/v-evil/v.parquet"):
        client().put_object(Bucket=bucket, Key=key, Body=(tmp_path / "v.parquet").read_bytes())
        client().put_object(Bucket=bucket, Key=f"{key}.dsse.json", Body=Path(signed["envelope"]).read_bytes())
    rule = SourceRule(prefixes=(f"s3://{bucket}/in/v",), keys=(signed["public"],))
    places: dict[str, Any] = {"calibration": None, "holdout": None}
    for key, expected in (("in/v/v.parquet", []), ("in/v-evil/v.parquet", ["prefix"])):
        out = tmp_path / key.split("/")[1]
        source = SourceConfig(name="v", batch="b", uri=f"s3://{bucket}/{key}")
        given = {name: out / name for name in ("dataset", "quarantine")}
        if expected:
            with pytest.raises(Refused, match="prefix"):
                ingest([source], IngestConfig(sources={"v": rule}), **given, **places)
        else:
            document = ingest([source], IngestConfig(sources={"v": rule}), **given, **places)
            assert document["batches"][0]["uploader"] == signed["keyid"]


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("place", ["files", "bucket"])
def test_the_real_data_sets_come_in(
    tmp_path: Path, bucket: str, shared_data: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "TIMEOUT_S", 20)
    expected = {
        "fashion_mnist/t10k-images-idx3-ubyte.gz": ("label", 10_000, 10),
        "tabular/elec.csv": ("class", 45_312, 2),
        "tabular/credit-card-clients.csv": ("default payment", 30_000, 2),
        "tabular/bikeshare.csv": ("season", 10_886, 4),
    }
    for name, (label, records, classes) in expected.items():
        files = [name, *([name.replace("images-idx3", "labels-idx1")] if "images" in name else [])]
        uris = [str(shared_data / file) for file in files]
        if place == "bucket":
            for file in files:
                client().upload_file(str(shared_data / file), bucket, file)
            uris = [f"s3://{bucket}/{file}" for file in files]
        uri, labels = (*uris, "")[:2]
        source = SourceConfig(name="real", batch=Path(name).name.split(".")[0], uri=uri, labels_uri=labels)
        out = tmp_path / source.batch
        given: dict[str, Any] = {"dataset": out / "d", "quarantine": out / "q", "calibration": None, "holdout": None}
        document = ingest([source], IngestConfig(label=label), **given)
        assert document["kept"] + document["quarantined"] == records
        assert document["quarantined"] == 0
        assert len(document["classes"]) == classes
