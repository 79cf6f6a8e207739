"""The processes of tasks: each in a session of its own, its output in the log, none left behind.

Takes the place of the one function by which kfp.local starts a task. That one pipes the output through ``print``, keeps
the exit status to itself, and on an interrupt leaves the task running.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from assay.data.files import TEMPORARY
from assay.errors import AssayError
from assay.runner import task
from assay.runner.cause import failure_of
from assay.runner.result import Failure, StepEvent, TaskResult
from assay.runner.task import EXECUTOR, PARENT
from assay.runner.zygote import AVAILABLE, Fork, Zygote

GRACE_S = 10.0
_SCRIPT = re.compile(
    r"""program_path=\$\(mktemp -d\)\s+printf "%s" "\$0" > "\$program_path/ephemeral_component\.py"\s+"""
    rf"""_KFP_RUNTIME=true (\S+) -m {re.escape(EXECUTOR)}\s+--component_module_path\s+\S+\s+"\$@"\s*"""
)
_OURS = (r"_KFP_RUNTIME=true (\S+) -m \S+", rf"exec env _KFP_RUNTIME=true \1 -m {task.__name__}")

__all__ = ["DEFAULTS", "Processes", "interruptible"]

DEFAULTS = {
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads on a busy machine made one training five times slower
    "OPENBLAS_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_TOP_PAD_": "268435456",
    "PYTHONHASHSEED": "0",
    "MPLBACKEND": "agg",
}


class Processes:
    """Runs tasks and remembers what became of each.

    Args:
        log: open file that takes their output.
        temporary: folder for their temporary files.
        environment: wins over this process's environment and over what the pipeline sets for the cluster.
        tell: called as a task starts and ends.
        modules: what tasks will import, for a zygote to import first; None starts every task from nothing.
    """

    def __init__(
        self,
        log: BinaryIO,
        temporary: Path,
        environment: Mapping[str, str],
        tell: Callable[[StepEvent], None],
        modules: Sequence[str] | None = None,
    ) -> None:
        self.tasks: dict[str, TaskResult] = {}
        self.failure: Failure | None = None
        self._log, self._temporary, self._tell = log, temporary, tell
        self._environment = dict(environment)
        self._running: set[subprocess.Popen[bytes] | Fork] = set()
        self._zygote = Zygote(modules, self._whole({}), log) if modules is not None and AVAILABLE else None

    def run(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Run one task to its end; named and shaped as kfp.local calls it. Returns the exit status."""
        record = _record(full_command)
        name = record.parent.name
        self._tell(StepEvent(name, "started"))
        offset, begun = self._log.seek(0, os.SEEK_END), time.monotonic()
        status = self._wait(full_command, self._whole(env_vars or {}))
        seconds = time.monotonic() - begun
        done = status == 0 and record.is_file()
        if not done:
            self.failure = failure_of(name, _from(self._log.name, offset), status)
        outputs = _outputs(record) if done else ({}, {})
        self.tasks[name] = TaskResult(name, "succeeded" if done else "failed", seconds, *outputs)
        self._tell(StepEvent(name, "succeeded" if done else "failed", seconds))
        return status if done or status else 1

    def stop(self) -> None:
        """End every task that still runs: first as Ctrl-C would, so that it can tidy up, then for good."""
        for process in self._running:
            _signal_group(process, signal.SIGINT)
        deadline = time.monotonic() + GRACE_S
        for process in self._running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            _signal_group(process, signal.SIGKILL)
            process.wait()
        if self._zygote is not None:
            self._zygote.close()

    def _whole(self, given: Mapping[str, str]) -> dict[str, str]:
        """All variables of a task; ``given`` are what the pipeline sets for the cluster."""
        return {**DEFAULTS, **os.environ, **given, **self._environment, "TMPDIR": str(self._temporary)}

    def _wait(self, command: list[str], environment: dict[str, str]) -> int:
        process = self._start(command, environment)
        self._running.add(process)
        status = process.wait()
        self._running.discard(process)
        _signal_group(process, signal.SIGKILL)
        return status

    def _start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes] | Fork:
        shell, flags, script, program, *arguments = command
        if not _SCRIPT.fullmatch(script):
            raise AssayError("kfp.local", f"a script of another shape, {script!r}", "that of kfp 2.17")
        if self._zygote is not None:
            return self._zygote.fork(program, arguments, environment, self._log)
        return subprocess.Popen(
            [shell, flags, re.sub(*_OURS, script), program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**environment, PARENT: str(os.getpid())},
            start_new_session=True,
        )


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn a polite request to end (SIGTERM, SIGHUP) into KeyboardInterrupt while the block runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def sweep(folder: Path) -> None:
    """Remove what a killed step had begun to write below a folder."""
    for begun in folder.rglob(f"{TEMPORARY}*"):
        shutil.rmtree(begun) if begun.is_dir() else begun.unlink(missing_ok=True)


def _record(full_command: list[str]) -> Path:
    """Where the task writes its record, last of all; its folder is named as the task."""
    try:
        given = json.loads(full_command[full_command.index("--executor_input") + 1])
        return Path(given["outputs"]["outputFile"])
    except (ValueError, KeyError, IndexError) as error:
        raise AssayError("kfp.local", f"a command of another shape ({error!r})", "that of kfp 2.17") from error


def _outputs(record: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    document = json.loads(record.read_text())
    artifacts = {name: Path(entry["artifacts"][0]["uri"]) for name, entry in document.get("artifacts", {}).items()}
    return document.get("parameterValues", {}), {name: path for name, path in artifacts.items() if path.exists()}


def _from(path: str | int, offset: int) -> str:
    with open(path, "rb") as stream:
        stream.seek(offset)
        return stream.read().decode(errors="replace")


def _signal_group(process: subprocess.Popen[bytes] | Fork, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
