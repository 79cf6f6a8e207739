"""Promotion into a real MLflow server over HTTP, also behind a proxy that loses replies and answers with errors."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from promotion_cases import TARGET, Candidate, state, tree

from assay import canonical
from assay.audit import audit
from assay.errors import Refused, Unreachable
from assay.reconcile import reconcile
from assay.registry import TAG, Registry
from assay.rollback import rollback
from assay.serving import fetch
from assay.workspace import Workspace

pytestmark = pytest.mark.slow  # the server takes ten seconds and more to start
SLOW_S = 3.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a tracking server with its own store and artifact proxy."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'store.db'}",
        "--artifacts-destination",
        str(folder / "art"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/health", process, folder / "log")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-2000:])


class Proxy(http.server.ThreadingHTTPServer):
    """Forwards to a server; ``fault(method, path)`` says what goes wrong, or nothing.

    ``drop``: the request is lost; ``lose``: it is done, its reply is lost; ``cut``: half of the reply arrives;
    ``twice``: it is done twice; ``slow``: its reply comes after the client gave up; ``error``: 503 instead.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Forwarder)
        self.upstream, self.fault = upstream, lambda method, path: ""
        self.seen: list[str] = []


class Forwarder(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def forward(self) -> None:
        self.server.seen.append(f"{self.command} {self.path}")
        fault = self.server.fault(self.command, self.path)
        if fault == "error":
            self.answer(503, b"busy")
            return
        if fault == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        request = urllib.request.Request(self.server.upstream + self.path, body or None, headers, method=self.command)
        for _ in range(2 if fault == "twice" else 1):
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    status, data = reply.status, reply.read()
            except urllib.error.HTTPError as error:
                status, data = error.code, error.read()
        if fault == "slow":
            time.sleep(SLOW_S)
        if fault in ("lose", "slow"):
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.answer(status, data, cut=fault == "cut")

    def answer(self, status: int, data: bytes, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server, which the workspace takes for MLflow."""
    made = Proxy(server)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{made.server_port}")
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def candidate(proxy: Proxy, tmp_path: Path) -> Candidate:
    """A model of its own name that may be promoted."""
    made = Candidate(Workspace.from_env(), tmp_path, os.urandom(8))
    made.gate(target=unique(tmp_path))
    return made


def unique(folder: Path) -> Any:
    """A target that no other test on this server uses."""
    return TARGET.model_copy(update={"model": f"m-{canonical.sha256(str(folder).encode())[:12]}"})


def test_the_files_of_the_version_can_be_fetched_from_the_server(candidate: Candidate, tmp_path: Path) -> None:
    target = unique(tmp_path)
    assert candidate.promote(target=target)["version"] == "1"
    registry = Registry(candidate.workspace)
    (version,) = registry.all_versions(target.model)
    fetched = registry.download(version, tmp_path / "fetched")
    assert canonical.tree_digest(canonical.tree_files(fetched)) == candidate.digest
    assert audit(candidate.workspace)["mismatches"] == []
    from mlflow import MlflowClient

    assert MlflowClient(candidate.workspace.tracking_uri).get_run(version.run_id).info.status == "FINISHED"


def test_an_artifact_overwritten_on_the_server_is_found(candidate: Candidate, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    target = unique(tmp_path)
    candidate.promote(target=target)
    (version,) = Registry(candidate.workspace).all_versions(target.model)
    (tmp_path / "weights.safetensors").write_bytes(b"swapped after evaluation")
    MlflowClient(candidate.workspace.tracking_uri).log_artifact(
        version.run_id, str(tmp_path / "weights.safetensors"), "model"
    )
    assert [one["where"] for one in audit(candidate.workspace)["mismatches"]] == [
        f"MLflow version {target.model}/1: files"
    ]


def runs(workspace: Workspace, promotion: str) -> list[str]:
    """The status of every MLflow run that holds the files of a promotion."""
    from mlflow import MlflowClient

    client = MlflowClient(workspace.tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run.info.status for run in client.search_runs(experiments, f"tags.`{TAG}` = '{promotion}'")]


FAULTS = ["drop", "lose", "cut", "twice", "slow", "error"]
WRITES = ["registered-models/create", "model-versions/create", "registered-models/alias", "runs/create"]


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_once_leaves_one_version_and_one_alias(
    candidate: Candidate, proxy: Proxy, tmp_path: Path, path: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with one write, done or not: asked again, the end is the same."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    left = [fault]
    proxy.fault = lambda method, asked: left.pop() if left and method == "POST" and asked.endswith(path) else ""
    target = unique(tmp_path)
    answer = candidate.promote(target=target)
    reached = state(candidate.workspace, target.model)
    assert left == []
    assert runs(candidate.workspace, answer["promotion"]) == ["FINISHED"]
    assert list(reached["versions"]) == [answer["version"]]
    assert reached["aliases"] == {"champion": answer["version"]}
    assert audit(candidate.workspace)["mismatches"] == []


def test_a_server_that_only_answers_with_errors_changes_nothing(
    candidate: Candidate, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.fault = lambda method, path: "error"
    before, started = tree(candidate.workspace.home), time.monotonic()
    with pytest.raises(Unreachable):
        candidate.promote(target=unique(tmp_path))
    assert time.monotonic() - started < 60
    assert tree(candidate.workspace.home) == before


def test_a_server_that_breaks_after_the_commit_is_made_up_for(
    candidate: Candidate, proxy: Proxy, tmp_path: Path
) -> None:
    target = unique(tmp_path)
    proxy.fault = lambda method, path: "error" if method == "POST" else ""
    with pytest.raises(Unreachable):
        candidate.promote(target=target)
    proxy.fault = lambda method, path: ""
    assert reconcile(candidate.workspace)["finished"] == [f"{target.model}@champion/1"]
    assert candidate.promote(target=target)["version"] == "1"
    assert audit(candidate.workspace)["mismatches"] == []


@pytest.mark.parametrize("fault", ["drop", "cut", "slow", "error"])
def test_a_server_that_always_fails_changes_nothing_and_keeps_the_served_model(
    candidate: Candidate, proxy: Proxy, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    target, out = unique(tmp_path), tmp_path / "served"
    candidate.promote(target=target)
    assert fetch(target, out)["model"]["version"] == "1"
    served, before = tree(out), candidate.workspace.ledger.names()
    proxy.fault = lambda method, path: fault
    for call in (lambda: fetch(target, out), lambda: candidate.promote(target=target)):
        started = time.monotonic()
        with pytest.raises(Unreachable):
            call()
        assert time.monotonic() - started < 30
    assert (tree(out), candidate.workspace.ledger.names()) == (served, before)


def test_an_alias_moved_on_the_server_is_refused_until_it_is_back(candidate: Candidate, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    target, out = unique(tmp_path), tmp_path / "served"
    candidate.promote(target=target)
    later = Candidate(candidate.workspace, tmp_path / "later", os.urandom(8))
    later.gate(target=target)
    later.promote(target=target)
    assert fetch(target, out)["sequence"] == 2
    MlflowClient(candidate.workspace.tracking_uri).set_registered_model_alias(target.model, target.alias, "1")
    with pytest.raises(Refused, match="audit"):
        fetch(target, out)
    reconcile(candidate.workspace, restore=True)
    assert fetch(target, out)["sequence"] == 2
    assert rollback(target, 1, reason="on purpose")["version"] == "1"
    assert fetch(target, out)["model"]["digest"] == candidate.digest
    assert audit(candidate.workspace)["mismatches"] == []
