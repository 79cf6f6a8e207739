"""A process that imports once what the steps of a run import, and forks into each task.

Importing is most of a short step: pandas, Great Expectations, torch's compiler and MLflow take ten seconds and more of
CPU, again in every process. The zygote is started with the run and imports, one module after the other, while the first
tasks already run. Linux only (pidfd, prctl); elsewhere every task is a process of its own from the start.

The run passes the zygote two descriptors for a task: its log, and one end of a socket. On it the new process reads what
to do, one line of JSON, and the zygote answers with two lines, process id and exit status. The zygote ends with the
run, its tasks with the zygote.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from assay.errors import AssayError
from assay.runner import task

AVAILABLE = sys.platform == "linux" and hasattr(os, "pidfd_open")
ALWAYS = ("kfp.dsl.executor",)
COMMON = ("numpy", "pandas", "pyarrow.parquet", "pyarrow.compute", "pydantic", "scipy.stats")
_TORCH = ("torch", "torch._dynamo")  # torch.optim asks for the compiler as the first optimiser is made
MODULES = {
    "sanitize": ("great_expectations",),
    "filter-poison": _TORCH,
    "train": _TORCH,
    "evaluate": _TORCH,
    "promote": ("mlflow",),
}
PROGRAM = "ephemeral_component.py"
_status: int | None = 0

__all__ = ["AVAILABLE", "Fork", "Zygote", "main", "modules_of"]


def modules_of(tasks: Sequence[str]) -> tuple[str, ...]:
    """What the tasks of a pipeline import, in the order they will; tasks by the names that KFP gives them."""
    heavy = [module for name in MODULES if name in tasks for module in MODULES[name]]
    return tuple(dict.fromkeys([*ALWAYS, *COMMON, *heavy] if heavy else ALWAYS))


class Fork:
    """A task's process, with as much of Popen as the runner needs."""

    def __init__(self, line: socket.socket) -> None:
        self._line, self._lines = line, line.makefile("rb")
        self._status: int | None = None
        self.pid = int(self._lines.readline())

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, below 0 the signal that ended the process; a zygote that is gone took its tasks along.

        Raises:
            subprocess.TimeoutExpired: still running after ``timeout`` seconds.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._line, selectors.EVENT_READ)
            if self._status is None and not selector.select(timeout):
                raise subprocess.TimeoutExpired(task.EXECUTOR, timeout or 0.0)
        if self._status is None:
            said = self._lines.readline()
            self._status = int(said) if said else -signal.SIGKILL
        return self._status


class Zygote:
    """The run's side.

    Args:
        modules: to import, in this order.
        environment: of the zygote: what is read as a process starts or a library loads (allocator, threads, hashes).
        log: takes what modules say as they are imported.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str], log: BinaryIO) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "assay.runner.zygote", str(theirs.fileno()), *modules],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment, "_KFP_RUNTIME": "true", task.PARENT: str(os.getpid())},
                start_new_session=True,
            )

    def fork(self, program: str, arguments: Sequence[str], environment: Mapping[str, str], log: BinaryIO) -> Fork:
        """Start a task.

        Args:
            program: source of the component.
            arguments: for KFP's executor.
            environment: all variables of the task.
            log: takes its output.

        Raises:
            AssayError: the zygote is gone, killed from outside or for want of memory.
        """
        mine, theirs = socket.socketpair()
        order = {"program": program, "arguments": list(arguments), "environment": dict(environment), "cwd": os.getcwd()}
        try:
            with theirs:
                socket.send_fds(self._control, [b"t"], [log.fileno(), theirs.fileno()])
            mine.sendall(json.dumps(order).encode() + b"\n")
            return Fork(mine)
        except (OSError, ValueError) as error:
            mine.close()
            raise AssayError(
                "the process that tasks are forked from", "it is gone", "memory for what steps import", "Run again."
            ) from error

    def close(self) -> None:
        """End the zygote, and with it what is left of its tasks."""
        self._control.close()
        self._process.kill()
        self._process.wait()


def main() -> None:
    """The zygote's side: import and fork until the run is gone, or become a task."""
    task.bind(int(os.environ.pop(task.PARENT)))
    atexit.register(_leave)  # first in, last out
    control, modules = socket.socket(fileno=int(sys.argv[1])), sys.argv[2:]
    mine = _serve(control, modules)
    if mine is not None:
        _become(*mine)


def _serve(control: socket.socket, modules: list[str]) -> tuple[int, socket.socket, int] | None:
    """In the zygote None, at the end; in a task its log, its socket, and the zygote's process id."""
    selector, zygote = selectors.DefaultSelector(), os.getpid()
    selector.register(control, selectors.EVENT_READ)
    while True:
        ready = selector.select(0 if modules else None)
        if not ready:
            with suppress(Exception):  # a step that needs it will say what is wrong
                importlib.import_module(modules.pop(0))
        for key, _ in ready:
            if key.fileobj is not control:
                _report(selector, key)
                continue
            _, given, _, _ = socket.recv_fds(control, 1, 2)
            if len(given) != 2:
                return None
            log, line = given[0], socket.socket(fileno=given[1])
            gc.freeze()
            pid = os.fork()
            if not pid:
                selector.close()
                control.close()
                return log, line, zygote
            os.close(log)
            line.sendall(b"%d\n" % pid)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, line))


def _report(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    pid, line = key.data
    selector.unregister(key.fileobj)
    os.close(key.fd)
    with line:
        line.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _become(log: int, line: socket.socket, zygote: int) -> None:
    """Take on the task's session, output, environment and arguments, then run it as a fresh process would."""
    os.setsid()
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
    with line.makefile("rb") as lines:
        order: dict[str, Any] = json.loads(lines.readline())
    line.close()
    os.environ.clear()
    os.environ.update(order["environment"], _KFP_RUNTIME="true")
    os.chdir(order["cwd"])
    tempfile.tempdir = None  # chosen anew, from this environment
    path = Path(tempfile.mkdtemp()) / PROGRAM
    path.write_text(order["program"])
    sys.argv = [task.EXECUTOR, "--component_module_path", str(path), *order["arguments"]]
    global _status
    try:
        task.execute(zygote)
    except KeyboardInterrupt:
        _status = None
        raise
    except SystemExit as error:
        _status = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    except BaseException:
        _status = 1
        raise


def _leave() -> None:
    """End at once after all else that runs at exit: to take apart what was imported takes longer than most steps."""
    if _status is not None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(_status)


if __name__ == "__main__":
    main()
