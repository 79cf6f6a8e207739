"""Why a task failed, from the end of what it said: kfp names the task and keeps the cause to itself."""

from __future__ import annotations

import re
import signal

from assay import errors
from assay.errors import AssayError
from assay.runner.result import Failure

TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"^(?P<path>[A-Za-z_][\w.]*?)(: (?P<message>.*))?$", re.DOTALL)

__all__ = ["failure_of"]


def failure_of(task: str, said: str, status: int) -> Failure:
    """The cause of a failure.

    Args:
        task: name of the task.
        said: its output, standard error included.
        status: exit status of its process; below 0 the signal that ended it.
    """
    raised = _last_raised(said)
    if raised is None or status < 0:
        return Failure(
            task, "Killed" if status < 0 else "Failed", _without_traceback(said, status), AssayError.exit_code
        )
    path, message = raised
    return Failure(task, path.rpartition(".")[2], message, _exit_code(path))


def _last_raised(said: str) -> tuple[str, str] | None:
    """Class and message of the last traceback; a message may have several lines."""
    _, found, tail = said.rpartition(TRACEBACK)
    if not found:
        return None
    lines = tail.splitlines()
    start = next((at for at, line in enumerate(lines) if line and not line[0].isspace()), None)
    if start is None:
        return None
    match = _RAISED.match("\n".join(lines[start:]).strip())
    return (match["path"], " ".join((match["message"] or "").split())) if match else None


def _exit_code(path: str) -> int:
    module, _, name = path.rpartition(".")
    known = getattr(errors, name, None) if module == errors.__name__ else None
    return int(known.exit_code) if isinstance(known, type) and issubclass(known, AssayError) else AssayError.exit_code


def _without_traceback(said: str, status: int) -> str:
    if status < 0:
        hint = ", maybe out of memory" if -status == signal.SIGKILL else ""
        return f"ended by signal {signal.Signals(-status).name}{hint}"
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    return f"exit status {status}: {last}"
