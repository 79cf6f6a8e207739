"""Run a pipeline on this machine, as the same compiled pipeline runs on a cluster."""

from __future__ import annotations

import inspect
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from assay.errors import AssayError
from assay.runner.arguments import check_arguments
from assay.runner.branches import PREFIX, called_for, check_branches
from assay.runner.processes import Processes, interruptible, sweep
from assay.runner.result import RunResult, StepEvent
from assay.runner.zygote import modules_of

__all__ = ["pipeline_spec", "run_pipeline"]


def run_pipeline(
    pipeline: Any,
    arguments: Mapping[str, Any],
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    on_step: Callable[[StepEvent], None] | None = None,
) -> RunResult:
    """Run a pipeline through kfp.local, one process a task.

    Args:
        pipeline: what ``build(resources)`` of a pipeline gives.
        arguments: values of its parameters; checked before anything runs.
        folder: of this run; takes ``run.log`` and the artifacts.
        environment: variables that the tasks get besides this process's own, such as those of a workspace.
        on_step: told as each task starts and ends; may print.

    Returns:
        The run, failed or not; ``result.require()`` raises for a failed step, with the exit code of the step's error.

    Raises:
        UnknownName, UnfitInput: the arguments, or the shape of the pipeline; nothing ran.
        AssayError: the engine ran other tasks than the pipeline's conditions call for, or failed by itself.
        KeyboardInterrupt: interrupted; no process and no temporary file is left.
    """
    spec = pipeline_spec(pipeline)
    check_branches(spec)
    check_arguments(arguments, spec)
    artifacts, temporary, log = (folder.absolute() / name for name in ("artifacts", "tmp", "run.log"))
    for path in (artifacts, temporary):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    with log.open("a+b", buffering=0) as raw, log.open("a", buffering=1) as text:
        modules = modules_of([name.removeprefix(PREFIX) for name in spec["components"]])
        processes = Processes(raw, temporary, environment or {}, _outside(sys.stdout, on_step), modules)
        trouble = _execute(pipeline, arguments, processes, text, artifacts, temporary)
    if trouble is not None and processes.failure is None:
        raise AssayError(
            "kfp.local", f"{type(trouble).__name__}: {trouble}", "a run", f"The whole log: {log}"
        ) from trouble
    result = RunResult(processes.tasks, processes.failure, folder, log)
    if result.failure is None:
        _require_called_for(spec, arguments, result)
    return result


def pipeline_spec(pipeline: Any) -> dict[str, Any]:
    """A compiled pipeline as plain data, as its YAML says it."""
    from google.protobuf import json_format

    document: dict[str, Any] = json_format.MessageToDict(pipeline.pipeline_spec)
    return document


def _execute(
    pipeline: Any, arguments: Mapping[str, Any], processes: Processes, text: TextIO, artifacts: Path, temporary: Path
) -> Exception | None:
    """Let kfp.local run; returns what it raised, if anything."""
    from kfp import local

    try:
        with interruptible(), _engine(processes), _quiet(text):
            local.init(
                local.SubprocessRunner(use_venv=False),
                pipeline_root=str(artifacts),
                workspace_root=str(temporary / "workspace"),
            )
            pipeline(**arguments)
        return None
    except Exception as error:  # kfp raises RuntimeError for a failed task and anything at all for its own faults
        return error
    finally:
        processes.stop()
        sweep(artifacts)
        shutil.rmtree(temporary, ignore_errors=True)


def _require_called_for(spec: Mapping[str, Any], arguments: Mapping[str, Any], result: RunResult) -> None:
    outputs = {name: task.parameters for name, task in result.tasks.items()}
    need, got = called_for(spec, arguments, outputs), set(result.tasks)
    if need != got:
        raise AssayError(
            "kfp.local",
            f"a run of {', '.join(sorted(got)) or 'no task'}",
            f"one of {', '.join(sorted(need))}, which the outputs call for",
            f"The engine misread a condition; nothing of this run counts. The whole log: {result.log}",
        )


@contextmanager
def _engine(processes: Processes) -> Iterator[None]:
    """Have kfp.local start tasks through our processes."""
    from kfp.local import subprocess_task_handler as handler

    theirs = getattr(handler, "run_local_subprocess", None)
    if theirs is None or list(inspect.signature(theirs).parameters) != ["full_command", "env_vars"]:
        raise AssayError(
            "kfp.local", "another way to start tasks", "that of kfp 2.17", "Install assay's constraints.txt."
        )
    handler.run_local_subprocess = processes.run
    try:
        yield
    finally:
        handler.run_local_subprocess = theirs


@contextmanager
def _quiet(text: TextIO) -> Iterator[None]:
    """What the engine prints, logs and warns of goes into the log; the root logger is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [logging.StreamHandler(text)]
    try:
        with redirect_stdout(text), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _outside(stdout: TextIO, on_step: Callable[[StepEvent], None] | None) -> Callable[[StepEvent], None]:
    """The callback with standard output as its caller knows it."""

    def tell(event: StepEvent) -> None:
        if on_step is not None:
            with redirect_stdout(stdout):
                on_step(event)

    return tell
