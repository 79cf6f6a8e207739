"""The local engine, wrapped: what it keeps quiet, what it hands on, and that an interrupt leaves nothing behind."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kfp import dsl

from assay.components.authoring import component
from assay.data.files import TEMPORARY
from assay.errors import AssayError, UnfitInput, UnknownName
from assay.runner.result import StepEvent
from assay.runner.run import run_pipeline

SCRIPT = Path(__file__).with_name("runner_interrupted.py")


@component
def speak(text: str, count: int, out: dsl.Output[dsl.Dataset]) -> NamedTuple("Said", [("length", int), ("env", str)]):  # type: ignore[valid-type]
    import os
    import tempfile
    import warnings
    from pathlib import Path
    from typing import NamedTuple

    print("a word on standard output")
    warnings.warn("a warning", stacklevel=1)
    tempfile.mkdtemp()
    Path(out.path).write_text(text * count)
    out.metadata["length"] = len(text) * count
    said = NamedTuple("Said", [("length", int), ("env", str)])  # noqa: UP014  # KFP's own way to type two outputs
    return said(len(text) * count, os.environ.get("ASSAY_PROBE", "") + os.environ["OMP_NUM_THREADS"])


@component
def fail(how: str):
    import os
    import signal

    if how == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        raise SystemExit(7)
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("second:\n  with two lines") from error


@dsl.pipeline
def speaking(text: str, count: int = 2):
    """Speak twice.

    Args:
        text: What to say.
    """
    first = speak(text=text, count=count)
    speak(text=text, count=1).after(first)


@dsl.pipeline
def failing(how: str):
    fail(how=how)


def test_nothing_of_the_engine_reaches_the_caller(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    result = run_pipeline(speaking, {"text": "abc"}, folder=tmp_path)
    assert capfd.readouterr() == ("", "")
    assert (root.handlers, root.level) == before
    log = result.log.read_text()
    assert log.count("a word on standard output") == 2
    assert "Executing task" in log


def test_a_callback_hears_every_step_and_may_print(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[StepEvent] = []

    def listen(event: StepEvent) -> None:
        heard.append(event)
        print(event.task)

    run_pipeline(speaking, {"text": "abc"}, folder=tmp_path, on_step=listen)
    assert [(event.task, event.state) for event in heard] == [
        ("speak", "started"),
        ("speak", "succeeded"),
        ("speak-2", "started"),
        ("speak-2", "succeeded"),
    ]
    assert capsys.readouterr().out.split() == ["speak", "speak", "speak-2", "speak-2"]
    assert all(event.seconds > 0 for event in heard if event.state == "succeeded")


def test_outputs_are_found_by_task_and_name(tmp_path: Path) -> None:
    result = run_pipeline(speaking, {"text": "abc", "count": 3}, folder=tmp_path).require()
    assert result.artifact("speak", "out").read_text() == "abcabcabc"
    assert result.artifact("speak_2", "out").read_text() == "abc"
    assert result.parameter("speak", "length") == 9
    with pytest.raises(UnknownName, match="Did you mean 'out'"):
        result.artifact("speak", "outt")
    with pytest.raises(UnknownName, match="Did you mean 'speak'"):
        result.artifact("spek", "out")


def test_tasks_get_the_environment_they_are_given_and_bounded_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("ASSAY_PROBE", "callers")
    assert run_pipeline(speaking, {"text": "a"}, folder=tmp_path).parameter("speak", "env") == "callers2"
    given = {"ASSAY_PROBE": "given", "OMP_NUM_THREADS": "1"}
    assert (
        run_pipeline(speaking, {"text": "a"}, folder=tmp_path, environment=given).parameter("speak", "env") == "given1"
    )
    assert os.environ["ASSAY_PROBE"] == "callers"


def test_a_run_leaves_its_artifacts_and_its_log_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    run_pipeline(speaking, {"text": "a"}, folder=tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["artifacts", "run.log"]
    assert not list((tmp_path / "scratch").iterdir())


def test_a_second_run_in_the_folder_replaces_the_first(tmp_path: Path) -> None:
    first = run_pipeline(speaking, {"text": "a"}, folder=tmp_path).artifact("speak", "out")
    second = run_pipeline(speaking, {"text": "b"}, folder=tmp_path).artifact("speak", "out")
    assert not first.exists()
    assert second.read_text() == "bb"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({}, UnfitInput, "parameter text: got nothing, need a value. What to say."),
        ({"txet": "a"}, UnknownName, "Did you mean 'text'"),
        ({"text": 1}, UnfitInput, "got int 1, need a string"),
        ({"text": "a", "count": 1.5}, UnfitInput, "need a number integer"),
        ({"text": "a", "count": True}, UnfitInput, "got bool True"),
        ({"text": "a" * 100_000}, UnfitInput, "got 100000 bytes, need at most"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(
    tmp_path: Path, arguments: dict[str, Any], error: type[AssayError], says: str
) -> None:
    with pytest.raises(error) as raised:
        run_pipeline(speaking, arguments, folder=tmp_path / "run")
    assert says in str(raised.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("raise", "ValueError", "second: with two lines"),
        ("signal", "Killed", "ended by signal SIGKILL, maybe out of memory"),
        ("exit", "Failed", "exit status 7"),
    ],
)
def test_the_cause_of_a_failure_is_told(tmp_path: Path, how: str, error: str, message: str) -> None:
    failure = run_pipeline(failing, {"how": how}, folder=tmp_path).failure
    assert failure is not None
    assert (failure.task, failure.error, failure.exit_code) == ("fail", error, 3)
    assert message in failure.message


def test_a_fault_of_the_engine_is_an_error_with_the_way_to_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kfp.local import subprocess_task_handler

    def broken(self: object) -> None:
        raise OSError("no such thing")

    monkeypatch.setattr(subprocess_task_handler.SubprocessTaskHandler, "run", broken)
    with pytest.raises(AssayError, match=r"no such thing.*run\.log"):
        run_pipeline(speaking, {"text": "a"}, folder=tmp_path)


def test_another_kfp_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kfp.local import subprocess_task_handler

    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", lambda command: 0)
    with pytest.raises(AssayError, match="another way to start tasks"):
        run_pipeline(speaking, {"text": "a"}, folder=tmp_path)


def interrupted(folder: Path, number: signal.Signals, *how: str) -> tuple[int, list[int]]:
    """Start the long run, interrupt it inside its step; returns the exit status and the step's processes."""
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(folder), *how], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (found := list(folder.rglob("pids"))) or not found[0].read_text():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    return process.wait(60), [int(text) for text in found[0].read_text().split()]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGINT, id="ctrl-c"), pytest.param(signal.SIGTERM, id="terminate", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("how", ["tidy", "deaf"])
def test_an_interrupt_leaves_no_process_and_no_temporary_file(tmp_path: Path, number: signal.Signals, how: str) -> None:
    """A step is asked to end as Ctrl-C asks, so that it tidies up; one that does not listen is ended all the same."""
    status, pids = interrupted(tmp_path / "run", number, how)
    assert status in (130, -signal.SIGINT)
    assert not [pid for pid in pids if alive(pid)]
    assert bool(list((tmp_path / "run").rglob("tidied"))) == (how == "tidy")
    assert not list((tmp_path / "run").rglob(f"{TEMPORARY}*"))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["artifacts", "run.log"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_step_dies_with_the_run_that_is_killed(tmp_path: Path) -> None:
    status, (step, _) = interrupted(tmp_path / "run", signal.SIGKILL)
    assert status == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while alive(step):
        assert time.monotonic() < deadline, "the step went on without its run"
        time.sleep(0.02)


def test_the_handlers_of_signals_are_as_before(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run_pipeline(speaking, {"text": "a"}, folder=tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
