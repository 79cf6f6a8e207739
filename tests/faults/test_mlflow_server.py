"""Step records into a real MLflow server over HTTP, also behind a proxy that loses replies, errs, or is down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from lineage_cases import by_step, client, dataset, outbox, record_step, runs
from test_promote_server import Proxy, proxy, server  # noqa: F401  # the fixtures of a server and a proxy before it

from assay import lineage
from assay.workspace import Workspace

pytestmark = pytest.mark.slow  # the server takes ten seconds and more to start
REQUESTS = ["experiments/create", "runs/create", "runs/update", "runs/log-batch", "runs/log-inputs", "runs/search"]


@pytest.fixture(autouse=True)
def _own_experiment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def mine(workspace: Workspace) -> dict[str, Any]:
    """The runs of this test's experiment, by step."""
    here = client(workspace).get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"]).experiment_id
    return by_step([found for found in runs(workspace) if found.info.experiment_id == here])


def test_repeated_steps_show_as_one_parent_and_one_nested_run_each(proxy: Proxy, tmp_path: Path) -> None:  # noqa: F811
    workspace = Workspace.from_env()
    page = tmp_path / "page.html"
    page.write_text("<p>")
    made = dataset({"a/b": 4})
    for _ in range(2):
        with lineage.step("ingest", "r1") as record:
            record.makes(made, "training")
            record.params["config"] = "x" * 7000
            record.shows(page)
        record_step("train", "r1")
    found = mine(workspace)
    assert set(found) == {"", "ingest", "train"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    (shown,) = found["ingest"].inputs.dataset_inputs
    assert shown.dataset.digest == made.manifest.digest[:32]
    files = client(workspace).list_artifacts(found["ingest"].info.run_id)
    assert {item.path for item in files} == {"long", "page.html"}


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize("fault", ["lose", "error"])
def test_a_fault_once_is_mended_by_the_next_step(proxy: Proxy, path: str, fault: str) -> None:  # noqa: F811
    """The reply to a request is lost after it was done, or the server is busy."""
    workspace = Workspace.from_env()
    left = [fault]
    proxy.fault = lambda method, asked: left.pop() if left and asked.partition("?")[0].endswith(path) else ""
    record_step("ingest", "r2", dataset({"a/b": 4}))
    assert not left
    record_step("train", "r2")
    found = mine(workspace)
    assert set(found) == {"", "ingest", "train"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found["ingest"].data.params == {"epochs": "3"}
    assert outbox(workspace) == []


def test_a_server_that_is_down_is_caught_up_with_when_it_is_back(proxy: Proxy) -> None:  # noqa: F811
    workspace = Workspace.from_env()
    proxy.fault = lambda method, asked: "error"
    for step in ("ingest", "sanitize", "train"):
        record_step(step, "r3")
    assert len(outbox(workspace)) == 3
    proxy.fault = lambda method, asked: ""
    record_step("gate", "r3")
    assert set(mine(workspace)) == {"", "ingest", "sanitize", "train", "gate"}
    assert outbox(workspace) == []
