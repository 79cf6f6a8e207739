"""Object storage that overwrites, forgets, stalls or breaks off: an error of the right kind, never a short file."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.config.ingest import IngestConfig, SourceConfig
from assay.data import object_store
from assay.data.dataset import Dataset
from assay.data.object_store import S3Ledger, client, download
from assay.errors import UnfitInput, Unreachable
from assay.ingest.step import ingest

BODY = b"0123456789" * 100


@pytest.fixture(scope="module")
def moto_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def _fast_and_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(object_store, "ATTEMPTS", 2)
    monkeypatch.setattr(object_store, "TIMEOUT_S", 1)


@pytest.fixture
def bucket(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
    name = f"b-{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
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
        (hang, Unreachable),
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
