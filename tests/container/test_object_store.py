"""What only a real S3 server shows: it checks signatures, checksums and parts, which moto does not.

Needs one, see ``tests/s3_server.py``; here they ran against Ceph.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from s3_server import REAL, credentials

from assay.config.ingest import IngestConfig, SourceConfig
from assay.data.dataset import Dataset
from assay.data.object_store import client, download, fetch
from assay.errors import Conflict, UnfitInput
from assay.ingest.step import ingest
from assay.s3_ledger import S3Ledger

pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(not REAL, reason="no ASSAY_TEST_S3; tests/container/ceph.sh starts a server"),
]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    credentials(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", REAL)
    name = f"r-{hashlib.sha256(f'{request.node.name}{os.getpid()}'.encode()).hexdigest()[:12]}"
    client().create_bucket(Bucket=name)
    return name


def refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except ClientError:
        return True
    return False


def table(folder: Path) -> Path:
    pq.write_table(pa.table({"f": np.arange(20.0), "label": ["a", "b"] * 10}), folder / "v.parquet")
    return folder / "v.parquet"


def test_a_wrong_secret_reads_and_writes_nothing(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client().upload_file(str(table(tmp_path)), bucket, "v.parquet")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "not the secret")
        with pytest.raises(UnfitInput, match="May these credentials"):
            download(f"s3://{bucket}/v.parquet", tmp_path / "f", 10**6)
        with pytest.raises(UnfitInput):
            S3Ledger(f"s3://{bucket}/ledger").put("a", b"1")
        places: dict[str, Any] = {"dataset": tmp_path / "d", "quarantine": tmp_path / "q"}
        source = SourceConfig(name="v", uri=f"s3://{bucket}/v.parquet")
        with pytest.raises(UnfitInput):
            ingest([source], IngestConfig(), calibration=None, holdout=None, **places)
    assert not {"f", "d", "q"} & {path.name for path in tmp_path.iterdir()}
    assert S3Ledger(f"s3://{bucket}/ledger").names() == []


def test_bytes_that_are_not_those_of_the_checksum_are_not_stored(bucket: str) -> None:
    with pytest.raises(ClientError, match=r"BadDigest|InvalidDigest|XAmzContent"):
        client().put_object(Bucket=bucket, Key="k", Body=b"one", ContentMD5="A" * 22 + "==")
    with pytest.raises(ClientError):
        client().head_object(Bucket=bucket, Key="k")


def test_an_object_in_parts_with_versions_is_its_bytes_after_it_was_replaced_and_deleted(
    tmp_path: Path, bucket: str
) -> None:
    """17 MiB in parts of 5, twice: each version is fetched whole, the first one after a delete."""
    from boto3.s3.transfer import TransferConfig

    s3 = client()
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    parts = TransferConfig(multipart_threshold=5 * 2**20, multipart_chunksize=5 * 2**20, use_threads=False)
    bodies, versions = [np.random.default_rng(k).bytes(17 * 2**20) for k in (0, 1)], []
    for k, body in enumerate(bodies):
        (tmp_path / f"in{k}").write_bytes(body)
        s3.upload_file(str(tmp_path / f"in{k}"), bucket, "k", Config=parts)
        versions.append(fetch(f"s3://{bucket}/k", tmp_path / f"out{k}", 2**30))
    assert len({*versions}) == 2
    s3.delete_object(Bucket=bucket, Key="k")
    with pytest.raises(UnfitInput):
        fetch(f"s3://{bucket}/k", tmp_path / "gone", 2**30)
    for k, (version, body) in enumerate(zip(versions, bodies, strict=True)):
        assert fetch(f"s3://{bucket}/k?versionId={version}", tmp_path / f"again{k}", 2**30) == version
        assert (tmp_path / f"out{k}").read_bytes() == body == (tmp_path / f"again{k}").read_bytes()
        assert not s3.head_object(Bucket=bucket, Key="k", VersionId=version)["ETag"].strip('"').isalnum()  # of parts


def test_a_name_of_the_ledger_is_won_once_or_the_store_is_refused(bucket: str) -> None:
    """40 names, 4 clients each at once: one of them wins, all read its bytes; or the ledger says that it cannot."""
    ledgers = [S3Ledger(f"s3://{bucket}/ledger") for _ in range(4)]
    said = [refused(lambda: client().put_object(Bucket=bucket, Key="k", IfNoneMatch="*")) for _ in range(2)]
    if not said[1]:
        with pytest.raises(UnfitInput, match="does not enforce create-once"):
            ledgers[0].put("first", b"")
        return
    for k in range(40):
        start = threading.Barrier(4)

        def bind(mine: int, name: str = f"n/{k}", start: threading.Barrier = start) -> str:
            start.wait()
            try:
                return "won" if ledgers[mine].put(name, bytes([mine]) * 1000) else "same"
            except Conflict:
                return "lost"

        with ThreadPoolExecutor(4) as pool:
            said = list(pool.map(bind, range(4)))
        assert sorted(said) == ["lost", "lost", "lost", "won"]
        assert ledgers[0].get(f"n/{k}") == bytes([said.index("won")]) * 1000


def test_a_batch_from_the_store_is_the_batch_from_a_file(tmp_path: Path, bucket: str) -> None:
    client().upload_file(str(table(tmp_path)), bucket, "in/v.parquet")
    digests = []
    for name, uri in (("a", str(tmp_path / "v.parquet")), ("b", f"s3://{bucket}/in/v.parquet")):
        places: dict[str, Any] = {"dataset": tmp_path / name / "d", "quarantine": tmp_path / name / "q"}
        source = SourceConfig(name="v", batch="b", uri=uri)
        ingest([source], IngestConfig(), calibration=None, holdout=None, **places)
        digests.append(Dataset.load(tmp_path / name / "d").manifest.digest)
    assert digests[0] == digests[1]
