"""``assay``: finds its verbs in this folder, and turns every outcome into one of four exit codes.

0 yes; 1 no; 2 the input or usage is wrong; 3 could not decide, and any unexpected error.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

import assay
from assay import cli, progress
from assay.cli._shared import bar, emit, fail
from assay.errors import AssayError

__all__ = ["main", "make_app"]


def make_app() -> typer.Typer:
    """The command line with every verb: a module ``<verb>.py`` holds a function ``command`` or a typer ``app``."""
    app = typer.Typer(
        name="assay",
        help="Test training data and models, and let only what passes be promoted.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    for module in sorted(pkgutil.iter_modules(cli.__path__), key=lambda found: found.name):
        if module.name.startswith("_") or module.name == "main":
            continue
        verb = importlib.import_module(f"assay.cli.{module.name}")
        name = module.name.replace("_", "-")
        if hasattr(verb, "app"):
            app.add_typer(verb.app, name=name)
        else:
            app.command(name)(verb.command)
    return app


def _options(
    version: bool = typer.Option(False, "--version", is_eager=True, help="Print the version and leave."),
) -> None:
    if version:
        emit(assay.__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given))


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    as_json = "--json" in arguments
    command = typer.main.get_command(make_app())
    try:
        with progress.reporting(bar()):
            code = command.main(arguments, prog_name="assay", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except AssayError as error:
        return fail(error, error.exit_code, as_json)
    except TyperException as error:
        return fail(error, 2, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return fail(RuntimeError("interrupted; run it again to go on"), 3, as_json)
    except Exception as error:
        if os.environ.get("ASSAY_DEBUG"):
            traceback.print_exc()
        return fail(error, 3, as_json)
