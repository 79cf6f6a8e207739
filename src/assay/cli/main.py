"""``assay``: runs one verb, and turns every outcome into one of four exit codes.

0 yes; 1 no; 2 the input or usage is wrong; 3 could not decide, and any unexpected error.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

__all__ = ["main", "run"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _usable_streams()
    warnings.showwarning = _warn  # type: ignore[assignment]  # which is called by position alone
    try:
        code = run(given)
    except KeyboardInterrupt:  # while modules are loaded: nothing was begun
        code = 3
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    import typer
    from typer.exceptions import TyperException

    from assay import progress
    from assay.cli._app import make_command
    from assay.cli._shared import bar, fail, of_place
    from assay.errors import AssayError

    as_json = "--json" in arguments
    command = make_command()
    try:
        # not command.main, which answers an interrupt, and a reader that left, with exit codes of its own
        with progress.reporting(bar()), command.make_context("assay", arguments) as context:
            command.invoke(context)
        return 0
    except typer.Exit as left:
        return left.exit_code
    except AssayError as error:
        return fail(error, error.exit_code, as_json)
    except TyperException as error:
        return fail(error, 2, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return fail(AssayError("interrupted", fix="Run it again to go on."), 3, as_json)
    except Exception as error:
        _debug()
        told = of_place(error) if isinstance(error, OSError) else error
        return fail(told, getattr(told, "exit_code", 3), as_json)


def _usable_streams() -> None:
    """Streams that take everything: a caller may have closed them, or chosen an encoding that lacks characters."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (for the life of the process)
        else:
            stream.reconfigure(errors="backslashreplace")


def _warn(message: Warning | str, *_: object) -> None:
    """A warning as a sentence: the line of code that gave it says nothing to whoever called."""
    sys.stderr.write(f"warning: {message}\n")


def _debug() -> None:
    if os.environ.get("ASSAY_DEBUG"):
        import traceback

        traceback.print_exc()
