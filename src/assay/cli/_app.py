"""The command line with every verb: a module ``<verb>.py`` of this folder is one, and nothing else lists it."""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from typing import Any

import typer
from typer.core import TyperGroup

import assay
from assay import cli
from assay.cli._shared import emit

__all__ = ["make_app", "make_command"]


class _Verbs(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the alphabet, those with verbs of their own among the rest."""
        return sorted(super().list_commands(ctx))


@cache
def make_command() -> TyperGroup:
    """The application, ready to be called; made once in a process."""
    command = typer.main.get_command(make_app())
    assert isinstance(command, TyperGroup)
    return command


def make_app() -> typer.Typer:
    """The application; a module of a verb holds a function ``command`` or a typer ``app``."""
    app = typer.Typer(
        name="assay",
        cls=_Verbs,
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
            app.command(name, short_help=_first_words(verb.command.__doc__ or ""))(verb.command)
    return app


def _options(
    version: bool = typer.Option(False, "--version", is_eager=True, help="Print the version and leave."),
) -> None:
    if version:
        emit(assay.__version__)
        raise typer.Exit


def _first_words(text: str) -> str:
    """What a verb does, without how: the list of verbs has one line for each."""
    return re.split(r"[;:.](?:\s|$)| \(", text, maxsplit=1)[0].strip() + "."
