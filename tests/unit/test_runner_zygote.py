"""The zygote: what it spares tasks, and that a task forked from it is as one started from nothing."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from assay.components.authoring import component
from assay.errors import AssayError
from assay.runner import processes, zygote
from assay.runner.run import run_pipeline
from assay.runner.zygote import MODULES, Zygote, modules_of

pytestmark = pytest.mark.skipif(not zygote.AVAILABLE, reason="a zygote needs Linux")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[io.FileIO]:
    with open(tmp_path / "log", "a+b", buffering=0) as stream:
        yield stream


@pytest.fixture
def parent(log: Any) -> Iterator[Zygote]:
    started = Zygote(["colorsys"], {**os.environ, "OF_ZYGOTE": "1"}, log)
    yield started
    started.close()


def task(parent: Zygote, log: Any, body: str, **environment: str) -> zygote.Fork:
    program = "def body():\n" + "\n".join(f"    {line}" for line in body.splitlines())
    arguments = [
        "--function_to_execute",
        "body",
        "--executor_input",
        json.dumps({"outputs": {"outputFile": "/dev/null"}}),
    ]
    return parent.fork(program, arguments, {**os.environ, **environment}, log)


def said(log: Any) -> str:
    return Path(log.name).read_text()


def test_what_was_imported_is_there_and_the_environment_is_the_tasks(parent: Zygote, log: Any, tmp_path: Path) -> None:
    assert task(parent, log, "pass").wait(60) == 0  # meanwhile it imports
    body = "import os, sys, tempfile\nprint('colorsys' in sys.modules, os.environ.get('OF_ZYGOTE'), os.environ['MINE'])"
    assert task(parent, log, body + "\nprint(tempfile.gettempdir())", MINE="yes", TMPDIR=str(tmp_path)).wait(60) == 0
    assert f"True None yes\n{tmp_path}\n" in said(log)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("raise SystemExit(7)", 7),
        ("raise SystemExit", 0),
        ("raise SystemExit('no')", 1),
        ("raise ValueError('no')", 1),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    ],
)
def test_the_exit_status_is_that_of_a_fresh_process(parent: Zygote, log: Any, body: str, status: int) -> None:
    assert task(parent, log, body).wait(60) == status


def test_what_runs_at_exit_runs_and_what_was_printed_arrives(parent: Zygote, log: Any) -> None:
    assert task(parent, log, "import atexit\natexit.register(print, 'at exit')\nprint('last', end='')").wait(60) == 0
    assert said(log).endswith("at exit\n")
    assert "last" in said(log)


def test_tasks_run_side_by_side(parent: Zygote, log: Any) -> None:
    slow = task(parent, log, "import time\ntime.sleep(60)")
    assert task(parent, log, "pass").wait(60) == 0
    with pytest.raises(subprocess.TimeoutExpired):
        slow.wait(0.01)
    os.killpg(slow.pid, signal.SIGKILL)
    assert slow.wait(60) == -signal.SIGKILL


def test_one_task_leaves_nothing_to_the_next(parent: Zygote, log: Any) -> None:
    assert (
        task(parent, log, "import colorsys, os\ncolorsys.left = 1\nos.environ['LEFT'] = '1'\nos.chdir('/')").wait(60)
        == 0
    )
    body = "import colorsys, os\nprint(hasattr(colorsys, 'left'), 'LEFT' in os.environ, os.getcwd())"
    assert task(parent, log, body).wait(60) == 0
    assert f"False False {os.getcwd()}" in said(log)


def test_a_zygote_that_is_gone_is_told_and_took_its_tasks_along(parent: Zygote, log: Any) -> None:
    running = task(parent, log, "import time\ntime.sleep(60)")
    parent._process.kill()
    assert running.wait(60) == -signal.SIGKILL
    with pytest.raises(AssayError, match="it is gone"):
        task(parent, log, "pass")


def test_a_module_that_cannot_be_imported_is_the_tasks_affair(log: Any) -> None:
    parent = Zygote(["no_such_module", "colorsys"], os.environ, log)
    assert task(parent, log, "import colorsys").wait(60) == 0
    parent.close()


def test_modules_are_those_of_the_pipelines_steps_and_exist() -> None:
    assert "mlflow" not in modules_of(["ingest", "train"])
    every = modules_of(list(MODULES))
    assert len(set(every)) == len(every)
    found = "import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, sys.argv[1:])))"
    assert subprocess.run([sys.executable, "-c", found, *every], check=False).returncode == 0


@component
def where(out: dsl.Output[dsl.Artifact]):
    import os
    from pathlib import Path

    Path(out.path).write_text(Path(f"/proc/{os.getppid()}/cmdline").read_text().replace("\0", " "))


@dsl.pipeline
def place():
    where()


@pytest.mark.parametrize("available", [True, False], ids=["forked", "from nothing"])
def test_a_run_works_with_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: bool) -> None:
    monkeypatch.setattr(processes, "AVAILABLE", available)
    parent = run_pipeline(place, {}, folder=tmp_path).require().artifact("where", "out").read_text()
    assert ("assay.runner.zygote" in parent) == available
