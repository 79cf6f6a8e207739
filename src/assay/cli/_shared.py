"""What verbs share: the ``--json`` flag, the answer on standard output, everything else on standard error."""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from assay.errors import AssayError, UnfitInput, redacted
from assay.progress import Reporter

Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, everything else on standard error.")
]

__all__ = ["Json", "answer", "bar", "emit", "fail", "leave", "notes", "of_place"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PLACES = {
    errno.ENOENT: "no such file or folder",
    errno.EEXIST: "a file where a folder is needed",
    errno.ENOTDIR: "a file where a folder is needed",
    errno.EISDIR: "a folder where a file is needed",
    errno.EBUSY: "a folder where a file is needed",
    errno.ENAMETOOLONG: "a name that is too long",
    errno.ELOOP: "a link that leads to itself",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "a read-only file system",
}

notes = Console(stderr=True, soft_wrap=True, highlight=False)


def emit(text: str) -> None:
    """Print a line of the answer on standard output; whoever reads only its head still gets the verb's exit code."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has left: neither this nor the flush at the end may say so again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def answer(document: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    """Print the answer: the document under ``--json``, else the lines for people."""
    emit(_json(document) if as_json else "\n".join(lines))


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
        with suppress(OSError):  # of a full disk behind standard output, standard error tells
            emit(_json({"error": {"type": type(error).__name__, "message": message, **facts}}))
    kind = "Usage" if code == 2 and not isinstance(error, AssayError) else type(error).__name__
    with suppress(OSError):
        sys.stderr.write(f"{message}\n" if message.startswith(f"{kind}:") else f"{kind}: {message}\n")
    return code


def of_place(error: OSError) -> Exception:
    """What the operating system said of a place in words: one that cannot be used is wrong input, a full one is not.

    Returns:
        UnfitInput or AssayError that names the place, or the error itself, when it is about none.
    """
    from assay.data.files import TEMPORARY

    name = error.filename2 or error.filename
    if error.errno in FULL:
        where = str(name) if name else "a file or standard output"
        return AssayError(where, "no space left", "room for it", "Make room and run it again.")
    if error.errno not in PLACES or not isinstance(name, str):
        return error
    place = Path(name).parent if TEMPORARY in Path(name).name else Path(name)
    return UnfitInput(str(place), PLACES[error.errno], "a place that can be used", "Name another, or mend this one.")


def _json(document: dict[str, Any]) -> str:
    """One line of JSON, in characters that standard output has."""
    ascii_only = "utf" not in (sys.stdout.encoding or "utf-8").lower()
    return json.dumps(document, ensure_ascii=ascii_only, allow_nan=False)


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
