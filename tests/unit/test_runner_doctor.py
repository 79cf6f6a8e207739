"""What doctor says of a place that is well, and of each thing that is not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from kfp_server import Server, serving
from moto.server import ThreadedMotoServer

from assay import doctor
from assay.cli.main import run
from assay.config import Config
from assay.doctor import Check, examine
from assay.examples.tiny import Tiny
from assay.keyring import Keyring, Role
from assay.ledger import FileLedger
from assay.workspace import LOCAL_ROLES, Workspace


@pytest.fixture(autouse=True)
def _no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KFP_ENDPOINT", "KF_PIPELINES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ready(workspace: Workspace) -> Workspace:
    """A workspace with keys."""
    workspace.initialise()
    return workspace


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="assay")
    yield "assay"
    server.stop()


def of(name: str, workspace: Workspace, config: Config | None = None, host: str = "") -> Check:
    return next(check for check in examine(workspace, config, host) if check.name == name)


def test_a_prepared_place_is_well_and_is_left_as_it_was(ready: Workspace) -> None:
    before = sorted(ready.home.rglob("*"))
    checks = examine(ready)
    assert {check.name: check.state for check in checks if check.name != "gpu"} == dict.fromkeys(
        (
            "python",
            "packages",
            "home",
            *(f"{role} key" for role in LOCAL_ROLES),
            "ledger",
            "mlflow",
            "storage",
            "kubeflow",
        ),
        "ok",
    )
    assert sorted(ready.home.rglob("*")) == before


def test_the_verb_leaves_with_1_when_something_fails_and_says_how_to_mend(
    capsys: pytest.CaptureFixture[str], workspace: Workspace
) -> None:
    assert run(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["healthy"] is False
    broken = {check["name"]: check["mend"] for check in document["checks"] if check["state"] == "fail"}
    assert set(broken) == {"evaluator key", "promoter key"}
    assert all("assay init" in mend for mend in broken.values())
    workspace.initialise()
    assert run(["doctor"]) == 0
    assert "ok    ledger" in capsys.readouterr().out


def test_a_key_that_the_keyring_does_not_list_fails(ready: Workspace) -> None:
    Keyring().save(ready.keyring_path)
    check = of("promoter key", ready)
    assert (check.state, str(ready.keyring_path) in check.mend) == ("fail", True)


@pytest.mark.parametrize(("role", "state"), [("custodian", "warn"), ("evaluator", "fail"), ("promoter", "fail")])
def test_a_key_that_is_not_there_is_told_by_what_it_costs(ready: Workspace, role: Role, state: str) -> None:
    Path(ready.signer_uris[role]).unlink()
    assert of(f"{role} key", ready).state == state


def test_a_key_that_others_may_read_warns(ready: Workspace) -> None:
    os.chmod(ready.signer_uris["evaluator"], 0o644)
    assert of("evaluator key", ready).state == "warn"


def test_a_broken_key_fails(ready: Workspace) -> None:
    Path(ready.signer_uris["evaluator"]).write_text("no key")
    assert of("evaluator key", ready).state == "fail"


def test_a_ledger_that_overwrites_fails(ready: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def overwrite(self: FileLedger, name: str, data: bytes) -> bool:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return True

    monkeypatch.setattr(FileLedger, "put", overwrite)
    check = of("ledger", ready)
    assert check.state == "fail"
    assert "conditional writes" in check.mend


def test_a_ledger_in_a_bucket_is_proven_there(ready: Workspace, bucket: str) -> None:
    remote = replace(ready, ledger_uri=f"s3://{bucket}/ledger")
    assert of("ledger", remote).state == "ok"
    assert of("storage", remote) == Check("storage", "ok", "s3://assay")
    assert of("storage", replace(ready, ledger_uri="s3://elsewhere/ledger")).state == "fail"


def test_mlflow_that_is_not_there_fails_soon(ready: Workspace) -> None:
    check = of("mlflow", replace(ready, tracking_uri="http://127.0.0.1:9"))
    assert check.state == "fail"
    assert "MLFLOW_TRACKING_URI" in check.mend
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_passwords_are_not_shown(ready: Workspace) -> None:
    check = of("mlflow", replace(ready, tracking_uri="postgresql://user:sesame@127.0.0.1:9/mlflow"))
    assert check.state == "fail"
    assert "postgresql://127.0.0.1:9/mlflow" in check.found
    assert "sesame" not in str(check)


def test_sources_that_are_not_there_fail(ready: Workspace, tmp_path: Path) -> None:
    path, _ = Tiny().write(tmp_path / "tiny")
    config = Config.load(path)
    assert of("storage", ready, config).state == "ok"
    Path(config.sources[0].uri).unlink()
    check = of("storage", ready, config)
    assert (check.state, config.sources[0].uri in check.found) == ("fail", True)


def test_kubeflow_is_asked_when_there_is_an_endpoint(ready: Workspace) -> None:
    with serving() as state:
        assert of("kubeflow", ready, host=state.address) == Check("kubeflow", "ok", state.address)
        _refuses(state)
        assert of("kubeflow", ready, host=state.address).state == "fail"
    assert of("kubeflow", ready, host="http://127.0.0.1:9").state == "fail"


def _refuses(state: Server) -> None:
    state.refuse = 401


def test_a_package_of_the_wrong_version_fails(ready: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "1.0" if name == "kfp" else real(name))
    check = of("packages", ready)
    assert check.state == "fail"
    assert "kfp 1.0, need" in check.found


def test_a_full_disk_warns(ready: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 2**80)
    assert of("home", ready).state == "warn"


def test_a_check_that_breaks_is_a_failed_check(ready: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Check:
        raise RuntimeError("out of order")

    monkeypatch.setattr(doctor, "_gpu", broken)
    assert of("gpu", ready) == Check("gpu", "fail", "RuntimeError: out of order", "See the message.")
