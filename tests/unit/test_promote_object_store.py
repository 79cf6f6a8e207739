"""Promotion with the ledger in object storage: the version points at the bucket, and sequences stay unique there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from promotion_cases import FLOOR, NO_WORSE, TARGET, Candidate, against_champion, evidence_about, policy, state

from assay.attempts import attempts, charge
from assay.audit import audit
from assay.errors import AssayError
from assay.ledger import open_ledger
from assay.promotions import history
from assay.registry import Registry
from assay.workspace import Workspace


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket on a server of its own."""
    from moto.server import ThreadedMotoServer

    from assay.data.object_store import client

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    client().create_bucket(Bucket="ledger")
    yield "s3://ledger/team"
    server.stop()


@pytest.mark.slow
def test_the_version_points_at_the_create_once_files_in_the_bucket(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_LEDGER", store)
    workspace = Workspace.from_env()
    first = Candidate(workspace, tmp_path / "first")
    answer = first.through()
    assert first.promote() == answer
    second = Candidate(workspace, tmp_path / "second", b"second", **against_champion(first.digest))
    second.through(policy(FLOOR, NO_WORSE))
    sources = [str(version.source) for version in Registry(workspace).all_versions("digits")]
    assert sources == [f"{store}/models/{one.digest}" for one in (first, second)]
    assert [made.sequence for made in history(workspace.ledger, workspace.keyring, TARGET)] == [1, 2]
    assert state(workspace)["aliases"] == {"champion": "2"}
    assert audit(workspace)["mismatches"] == []
    from assay.data.object_store import client

    client().put_object(Bucket="ledger", Key=f"team/models/{second.digest}/weights.safetensors", Body=b"swapped")
    assert len(audit(workspace)["mismatches"]) == 2


def test_attempts_are_numbered_in_one_order_in_the_bucket_too(store: str) -> None:
    """Two connections, one measurement in common."""
    holdout = "f" * 64
    first, second = open_ledger(store), open_ledger(store)
    made = [evidence_about("a" * 64, measured={"seed": seed, "holdout_content": holdout}) for seed in range(3)]
    told = [
        len(charge(ledger, made[seed], TARGET)) for ledger, seed in ((first, 0), (second, 1), (first, 1), (second, 2))
    ]
    assert told == [1, 2, 2, 3]
    assert attempts(first, holdout, TARGET) == [each.id for each in made]


def test_a_bucket_that_is_not_there_changes_nothing(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = Candidate(Workspace.from_env(), tmp_path)
    candidate.gate()
    monkeypatch.setenv("ASSAY_LEDGER", "s3://nowhere/team")
    with pytest.raises(AssayError, match="nowhere"):
        candidate.promote()
    assert state(candidate.workspace)["versions"] == {}
