"""MLflow that is away, slow, locked or killed in between: the step succeeds, and its record arrives exactly once."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sqlite3
import time
from contextlib import closing
from multiprocessing import get_context
from typing import Any

import pytest
from lineage_cases import by_step, client, dataset, outbox, record_step, runs
from promotion_cases import with_store

from assay import canonical
from assay.mlflow_store import make_store
from assay.workspace import Workspace

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(["mlflow", "mlflow.store.tracking.sqlalchemy_store", "lineage_cases"])
WRITES = ("create_experiment", "create_run", "set_terminated", "log_batch", "log_inputs")
BOUND_S = 45


def record_in(home: str, step: str, run: str, nth: int) -> None:
    """Record one step in this process, killed before MLflow's nth write; 0 for never."""
    os.environ["ASSAY_HOME"] = home
    if nth:
        kill_before(nth)
    record_step(step, run, dataset({"a/b": 4}))


def kill_before(nth: int) -> None:
    from mlflow import MlflowClient

    done: list[str] = []

    def counted(write: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            done.append("")
            if len(done) == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*given, **named)

        return call

    for name in WRITES:
        setattr(MlflowClient, name, counted(getattr(MlflowClient, name)))


def process(*given: Any) -> Any:
    started = PROCESSES.Process(target=record_in, args=given)
    started.start()
    return started


@pytest.fixture
def home(workspace: Workspace) -> Workspace:
    with_store(workspace)
    return workspace


@pytest.fixture
def away(workspace: Workspace) -> Workspace:
    """A store whose place is taken by a folder, until that folder is removed."""
    (workspace.home / "mlflow.db").mkdir(parents=True)
    return workspace


def come_back(workspace: Workspace) -> None:
    (workspace.home / "mlflow.db").rmdir()
    with_store(workspace)


def test_an_unreachable_mlflow_fails_no_step_and_loses_no_record(
    away: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    made = dataset({"a/b": 4})
    with caplog.at_level(logging.WARNING, logger="assay.mlflow"):
        record_step("ingest", "r1", made)
        record_step("train", "r1")
    assert [message for message in caplog.messages if "2 step record(s) wait in" in message]
    assert [name.split("/")[2].split("-")[0] for name in away.ledger.names("runs/")] == ["ingest", "train"]
    assert [canonical.read(path)["step"] for path in outbox(away)] == ["ingest", "train"]
    come_back(away)
    record_step("gate", "r1")
    assert outbox(away) == []
    found = by_step(runs(away))
    assert set(found) == {"", "ingest", "train", "gate"}
    assert found["ingest"].data.tags["assay.dataset.training"] == made.manifest.digest
    for name in ("ingest", "train", "gate"):
        assert len(client(away).get_metric_history(found[name].info.run_id, "accuracy")) == 1


def test_a_record_that_waited_keeps_its_own_times(away: Workspace) -> None:
    before = int(time.time() * 1000)
    record_step("ingest", "r1")
    after = int(time.time() * 1000)
    come_back(away)
    record_step("train", "r1")
    info = by_step(runs(away))["ingest"].info
    assert before <= info.start_time <= info.end_time <= after


def test_records_of_another_tracking_store_are_left_to_it(away: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    record_step("ingest", "r1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{away.home / 'other.db'}")
    record_step("ingest", "r2")
    (left,) = outbox(away)
    assert canonical.read(left)["run"] == "r1"


def test_a_record_that_mlflow_refuses_stays_and_blocks_no_other(
    home: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    record_step("train", "r1")
    assert "Rejected" in caplog.text
    monkeypatch.delenv("MLFLOW_RUN_ID")
    record_step("ingest", "r2")
    assert set(by_step(runs(home))) == {"", "ingest"}
    (left,) = outbox(home)
    assert canonical.read(left)["mlflow_run"] == "0" * 32


def test_a_file_in_the_outbox_that_is_no_record_harms_nothing(home: Workspace) -> None:
    (home.home / "outbox").mkdir(parents=True)
    (home.home / "outbox" / "broken.json").write_bytes(b'{"schema": "assay.outbox/v1"')
    record_step("ingest", "r1")
    assert set(by_step(runs(home))) == {"", "ingest"}
    assert [path.name for path in outbox(home)] == ["broken.json"]


def test_a_server_that_never_answers_is_given_up_within_the_bound(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:hunter2@127.0.0.1:{port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        started = time.monotonic()
        record_step("ingest", "r1")
        assert time.monotonic() - started < BOUND_S
    (left,) = outbox(workspace)
    assert b"hunter2" not in left.read_bytes()


def test_a_password_in_the_address_is_not_shown(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hunter2@127.0.0.1:9")
    record_step("ingest", "r1")
    assert "MLflow at http://127.0.0.1:9" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_home_that_cannot_be_written_still_delivers(home: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    (home.home / "outbox").write_bytes(b"a file in the way")
    record_step("ingest", "r1")
    assert set(by_step(runs(home))) == {"", "ingest"}


@pytest.mark.parametrize("nth", [1, 3, 5, 6, *(pytest.param(nth, marks=pytest.mark.slow) for nth in (2, 4, 7, 8, 9))])
def test_killed_before_any_write_the_next_delivery_ends_in_the_same_state(home: Workspace, nth: int) -> None:
    killed = process(str(home.home), "ingest", "r1", nth)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert len(outbox(home)) == 1
    if nth not in (3, 5):  # the moments between making a run and ending it
        assert "RUNNING" not in {run.info.status for run in runs(home)}
    record_step("train", "r1")
    found = by_step(runs(home))
    assert set(found) == {"", "ingest", "train"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found["ingest"].data.params == {"epochs": "3"}
    assert len(found["ingest"].inputs.dataset_inputs) == 1
    assert outbox(home) == []
    assert list(home.home.rglob(".assay-tmp-*")) == []


def test_four_processes_on_one_store_make_one_parent_and_one_run_a_step(home: Workspace) -> None:
    names = ("ingest", "train", "train", "gate")
    started = [process(str(home.home), name, "r1", 0) for name in names]
    for one in started:
        one.join()
    assert [one.exitcode for one in started] == [0, 0, 0, 0]
    found = by_step(runs(home, deleted=True))
    assert set(found) == {"", *names}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert outbox(home) == []


def test_parents_that_raced_into_being_become_one(home: Workspace) -> None:
    """Two machines share no lock: each made a parent and a run of the same step before it saw the other's."""
    asked = client(home)
    here = asked.create_experiment("assay")
    for parent_start in (1, 2):
        tags = {"assay.run": "r1"}
        parent = asked.create_run(here, start_time=parent_start, tags=tags)
        below = {"mlflow.parentRunId": parent.info.run_id}
        asked.create_run(here, start_time=parent_start, tags=tags | below | {"assay.step": "ingest"})
        asked.create_run(here, start_time=9, tags=tags | below | {"assay.step": f"train-{parent_start}"})
    record_step("ingest", "r1")
    found = by_step(runs(home))
    assert set(found) == {"", "ingest", "train-1", "train-2"}
    assert found[""].info.start_time == 1
    parents = {run.data.tags["mlflow.parentRunId"] for step, run in found.items() if step}
    assert parents == {found[""].info.run_id}


@pytest.mark.slow
def test_a_locked_store_is_given_up_and_caught_up_with(home: Workspace) -> None:
    """MLflow's own patience with SQLite is about 20 seconds a call."""
    with sqlite3.connect(home.home / "mlflow.db", isolation_level=None) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        record_step("ingest", "r1")
        assert time.monotonic() - started < BOUND_S
        assert len(outbox(home)) == 1
        lock.execute("ROLLBACK")
    record_step("train", "r1")
    assert set(by_step(runs(home))) == {"", "ingest", "train"}


def test_a_store_appears_whole_or_not_at_all(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow says of tables that it made before a kill that they exist, and never makes the others."""
    from mlflow import MlflowClient

    path = workspace.home / "mlflow.db"
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "search_experiments", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_store(workspace.tracking_uri)
    assert not path.exists()
    make_store(workspace.tracking_uri)
    made = path.read_bytes()
    make_store(workspace.tracking_uri)
    assert path.read_bytes() == made
    with closing(sqlite3.connect(path)) as store:
        tables = {name for (name,) in store.execute("select name from sqlite_master")}
    assert {"experiments", "runs", "registered_models", "alembic_version"} <= tables
