"""What verbs share: the ``--json`` flag, the answer on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from assay.errors import AssayError, redacted
from assay.progress import Reporter

Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, everything else on standard error.")
]

__all__ = ["Json", "answer", "bar", "emit", "fail", "leave", "notes"]

notes = Console(stderr=True, soft_wrap=True, highlight=False)


def emit(text: str) -> None:
    """Print a line of the answer on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def answer(document: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    """Print the answer: the document under ``--json``, else the lines for people."""
    emit(json.dumps(document, ensure_ascii=False, allow_nan=False) if as_json else "\n".join(lines))


def leave(code: int) -> NoReturn:
    """End the verb with an exit code."""
    raise typer.Exit(code)


def fail(error: Exception, code: int, as_json: bool) -> int:
    """Say what went wrong, as text on standard error and, under ``--json``, as a document on standard output."""
    message = redacted(str(getattr(error, "format_message", error.__str__)()))
    if as_json:
        facts = {
            name: getattr(error, name) for name in ("where", "got", "need", "fix", "close") if hasattr(error, name)
        }
        emit(json.dumps({"error": {"type": type(error).__name__, "message": message, **facts}}, ensure_ascii=False))
    kind = "Usage" if code == 2 and not isinstance(error, AssayError) else type(error).__name__
    sys.stderr.write(f"{kind}: {message}\n")
    return code


def bar() -> Reporter | None:
    """A reporter that draws a progress bar on a terminal; None elsewhere."""
    if not sys.stderr.isatty():
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    display = Progress(*columns, console=notes, transient=True)
    tasks: dict[str, Any] = {}

    def report(what: str, done: int, total: int) -> None:
        display.start()
        if what not in tasks:
            tasks[what] = display.add_task(what, total=total)
        display.update(tasks[what], completed=done, total=total)
        if done >= total:
            display.remove_task(tasks.pop(what))
        if not tasks:
            display.stop()

    return report
