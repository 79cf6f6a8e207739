"""Named sets of an evaluation in object storage: read whole, checked against their manifest, or an error about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from evaluate_cases import dataset
from s3_server import credentials, s3_server

from assay.data import object_store
from assay.data.object_store import client
from assay.errors import UnfitInput, Unreachable
from assay.evaluate.holdout import read_sets
from assay.models.spec import Architecture, ModelSpec, Preprocessing, Trained

pytestmark = pytest.mark.slow  # moto
SPEC = ModelSpec(
    architecture=Architecture(name="linear"),
    input_shape=(3,),
    classes=("0", "1"),
    preprocessing=Preprocessing(mean=(0.0,) * 3, scale=(1.0,) * 3),
    trained=Trained(method="cross_entropy"),
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Holds the dataset folder ``sets/canaries``."""
    credentials(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setattr(object_store, "ATTEMPTS", 1)
    monkeypatch.setattr(object_store, "TIMEOUT_S", 1)
    name = f"sets-{abs(hash(tmp_path)):x}"
    client().create_bucket(Bucket=name)
    x = np.random.default_rng(0).uniform(0, 1, (20, 3)).astype(np.float32)
    dataset(x, np.arange(20) % 2).save(tmp_path / "canaries")
    for path in (tmp_path / "canaries").rglob("*"):
        if path.is_file():
            client().put_object(
                Bucket=name, Key=f"sets/{path.relative_to(tmp_path).as_posix()}", Body=path.read_bytes()
            )
    return name


@pytest.mark.parametrize("uri", ["s3://{bucket}/sets/canaries", "s3://{bucket}/sets/canaries/", "file://{here}"])
def test_a_set_is_read_from_where_it_lies(bucket: str, tmp_path: Path, uri: str) -> None:
    given = uri.format(bucket=bucket, here=tmp_path / "canaries")
    found, local = (read_sets({"c": place}, SPEC)["c"] for place in (given, str(tmp_path / "canaries")))
    assert found.dataset.manifest.digest == local.dataset.manifest.digest
    assert np.array_equal(found.x, local.x)


def test_a_set_that_is_not_there_or_was_changed_is_refused(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for uri in (f"s3://{bucket}/sets/none", "gs://bucket/sets", f"s3://{bucket}/sets"):
        with pytest.raises(UnfitInput):
            read_sets({"c": uri}, SPEC)
    key = next(path for path in (tmp_path / "canaries").rglob("*.parquet")).relative_to(tmp_path)
    client().put_object(Bucket=bucket, Key=f"sets/{key.as_posix()}", Body=b"PAR1")
    with pytest.raises(UnfitInput):
        read_sets({"c": f"s3://{bucket}/sets/canaries"}, SPEC)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unreachable):
        read_sets({"c": f"s3://{bucket}/sets/canaries"}, SPEC)
