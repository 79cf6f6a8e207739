"""Submit, schedule and list: kfp's real client against a server that records what it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp_server import Server, serving

from assay.cli.main import run
from assay.errors import UnfitInput, Unreachable
from assay.examples.tiny import Tiny
from assay.kubeflow import client
from assay.kubeflow.client import Kubeflow
from assay.kubeflow.submission import require_cron


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("KFP_NAMESPACE", "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with serving() as state:
        monkeypatch.setenv("KFP_ENDPOINT", state.address)
        yield state


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny example's assay.yaml, fit for a cluster: managed keys only."""
    path, _ = Tiny().write(tmp_path_factory.mktemp("tiny"))
    document = yaml.safe_load(path.read_text())
    document["policy"]["accept_local_keys"] = False
    path.write_text(yaml.safe_dump(document))
    return path


def assay(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON document and standard error of one command line."""
    capsys.readouterr()
    code = run([*arguments, "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out), captured.err


def test_submit_uploads_a_version_and_runs_that_version(
    server: Server, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--service-account", "trainer", "--pipeline-root", "s3://bucket/root")
    code, document, notes = assay(capsys, "submit", "robust_training", "--config", str(config), *options)
    assert code == 0
    (uploaded,) = server.posted("/pipelines/upload_version")
    assert len(list(yaml.safe_load_all(uploaded.body))) == 2
    (made,) = server.posted("/runs")
    assert made.body["pipeline_version_reference"] == {
        "pipeline_id": "pipelines-1",
        "pipeline_version_id": "versions-1",
    }
    assert "pipeline_spec" not in made.body
    assert made.body["service_account"] == "trainer"
    assert made.body["runtime_config"]["pipeline_root"] == "s3://bucket/root"
    parameters = made.body["runtime_config"]["parameters"]
    assert json.loads(parameters["target"]) == {"model": "tiny", "alias": "champion"}
    assert json.loads(parameters["policy"])["accept_local_keys"] is False
    assert document == {
        "run_id": "runs-1",
        "url": f"{server.address}/#/runs/details/runs-1",
        "pipeline": "robust-training",
        "version": uploaded.query["name"],
    }
    assert "source vendor-a lies on this machine" in notes


@pytest.mark.slow
def test_the_same_pipeline_is_uploaded_once(server: Server, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert assay(capsys, "submit", "robust_training", "--config", str(config))[0] == 0
    assert len(server.posted("/pipelines/upload")) == 1
    assert len(server.posted("/pipelines/upload_version")) == 1
    assert len(server.posted("/runs")) == 2
    assay(capsys, "submit", "robust_training", "--config", str(config), "--set", "train.epochs=3")
    assert len(server.posted("/pipelines/upload")) == 1
    assert len(server.posted("/pipelines/upload_version")) == 2


def test_keys_of_a_laptop_are_refused_for_a_cluster(
    server: Server, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = ("robust_training", "--config", str(config), "--set", "policy.accept_local_keys=true")
    code, document, _ = assay(capsys, "submit", *local)
    assert code == 1
    assert document["error"]["where"] == "policy.accept_local_keys"
    assert "--allow-local-keys" in document["error"]["fix"]
    assert assay(capsys, "schedule", *local, "--cron", "0 3 * * *")[0] == 1
    assert not server.requests
    assert assay(capsys, "submit", *local, "--allow-local-keys")[0] == 0


def test_a_missing_parameter_is_found_before_anything_is_sent(
    server: Server, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document, _ = assay(capsys, "submit", "retrain_on_drift", "--config", str(config))
    assert (code, document["error"]["type"]) == (2, "UnfitInput")
    assert "parameter current, reference" in document["error"]["message"]
    code, document, _ = assay(capsys, "submit", "robust_training", "--config", str(config), "--param", "sorces=[]")
    assert (code, document["error"]["close"]) == (2, "sources")
    assert not server.requests


def test_a_schedule_runs_one_at_a_time_and_makes_up_for_nothing(
    server: Server, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--param", "reference=s3://b/reference", "--param", "current=s3://b/window")
    arguments = ("schedule", "retrain_on_drift", "--config", str(config), "--cron", "0 3 * * *", *given)
    code, document, _ = assay(capsys, *arguments)
    assert code == 0
    (made,) = server.posted("/recurringruns")
    assert made.body["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert (made.body["no_catchup"], int(made.body["max_concurrency"])) == (True, 1)
    assert made.body["mode"] == "ENABLE"
    assert made.body["pipeline_version_reference"]["pipeline_version_id"] == "versions-1"
    assert made.body["runtime_config"]["parameters"]["reference"] == "s3://b/reference"
    assert document["schedule_id"] == "recurringruns-1"


def test_a_schedule_is_made_once_and_not_beside_another_of_its_name(
    server: Server, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("schedule", "robust_training", "--config", str(config))
    first = assay(capsys, *arguments, "--cron", "0 3 * * *")
    assert assay(capsys, *arguments, "--cron", "0 3 * * *") == first
    assert len(server.posted("/recurringruns")) == 1
    code, document, _ = assay(capsys, *arguments, "--cron", "0 4 * * *")
    assert (code, document["error"]["type"]) == (2, "Conflict")
    assert assay(capsys, *arguments, "--cron", "0 4 * * *", "--name", "another")[0] == 0


def test_runs_are_listed(server: Server, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assay(capsys, "submit", "robust_training", "--config", str(config))
    code, document, _ = assay(capsys, "runs", "--limit", "5")
    assert code == 0
    assert [(one["id"], one["state"]) for one in document["runs"]] == [("runs-1", "PENDING")]
    assert document["runs"][0]["created"].startswith("2026-01-02T03:04:05")
    assert server.requests[-1].query["page_size"] == "5"


def test_the_token_and_the_namespace_are_sent(
    server: Server, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "secret")
    assay(capsys, "submit", "robust_training", "--config", str(config), "--namespace", "team")
    assert {one.token for one in server.requests} == {"Bearer secret"}
    assert server.posted("/pipelines/upload")[0].query["namespace"] == "team"
    assert server.posted("/experiments")[0].body["namespace"] == "team"
    monkeypatch.delenv("KF_PIPELINES_TOKEN")
    (tmp_path / "token").write_text("mounted\n")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assay(capsys, "runs")
    assert server.requests[-1].token == "Bearer mounted"


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [(401, "Refused", 1), (403, "Refused", 1), (404, "UnfitInput", 2), (500, "Unreachable", 3)],
)
def test_what_the_server_answers_decides_the_exit_code(
    server: Server, capsys: pytest.CaptureFixture[str], status: int, error: str, code: int
) -> None:
    server.refuse = status
    got, document, _ = assay(capsys, "runs")
    assert (got, document["error"]["type"]) == (code, error)
    assert f"status {status}" in document["error"]["message"]


def test_a_server_that_does_not_answer_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "READ_S", 0.2)
    server.stall_s = 5
    with pytest.raises(Unreachable, match="Is the endpoint right"):
        Kubeflow().healthy()


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        Kubeflow("http://127.0.0.1:9").runs(1)


def test_an_endpoint_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KFP_ENDPOINT", raising=False)
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    with pytest.raises(UnfitInput, match="KFP_ENDPOINT"):
        Kubeflow()


@pytest.mark.parametrize(("text", "cron"), [("0 3 * * *", "0 0 3 * * *"), ("30 0 3 ? * 2-6", "30 0 3 ? * 2-6")])
def test_cron_may_have_five_or_six_fields(text: str, cron: str) -> None:
    assert require_cron(text) == cron


@pytest.mark.parametrize("text", ["", "3", "* * * *", "a b c d e f g", "0 3 * * $"])
def test_another_cron_is_refused(text: str) -> None:
    with pytest.raises(UnfitInput, match="five fields"):
        require_cron(text)


def test_compile_writes_the_yaml_whole(tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "pipeline.yaml"
    code, document, _ = assay(
        capsys, "compile", "robust_training", "--config", str(config), "--out", str(out), "--set", "train.epochs=7"
    )
    assert code == 0
    spec, _ = yaml.safe_load_all(out.read_text())
    default = spec["root"]["inputDefinitions"]["parameters"]["train"]["defaultValue"]
    assert json.loads(default)["epochs"] == 7
    assert document["parameters"]["train"] == default
    assert [path.name for path in out.parent.iterdir()] == ["pipeline.yaml"]


@pytest.mark.parametrize("arguments", [(), ("robust_training", "--components", "x")])
def test_compile_wants_a_pipeline_or_components(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert assay(capsys, "compile", *arguments)[0] == 2
