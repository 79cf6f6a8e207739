"""What must hold before a pipeline leaves for a cluster, and the ways it may go there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from assay.config import Config
from assay.errors import Refused, UnfitInput
from assay.kubeflow.compile import Compiled, compile_pipeline
from assay.runner.arguments import check_arguments

__all__ = ["local_sources", "parse_given", "prepare", "require_cron", "require_managed_keys"]


def prepare(name: str, config: Config, given: Mapping[str, Any]) -> tuple[Compiled, dict[str, Any]]:
    """The compiled pipeline and all arguments of a run of it, checked as Kubeflow does not.

    Raises:
        UnknownName, UnfitInput: see `check_arguments`.
    """
    compiled = compile_pipeline(name, config)
    arguments = {**compiled.defaults, **given}
    check_arguments(arguments, compiled.spec)
    return compiled, arguments


def parse_given(pairs: Iterable[str]) -> dict[str, Any]:
    """``name=value`` pairs; a value that is a JSON object or list is one, all else is text.

    Raises:
        UnfitInput: no ``=``, or a name twice.
    """
    given: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name) or name in given:
            raise UnfitInput("--param", repr(pair), "name=value, each name once")
        try:
            given[name] = yaml.safe_load(value) if name.endswith("_selector") else value
        except yaml.YAMLError as error:
            raise UnfitInput(f"--param {name}", repr(value), 'a JSON object, such as {"gpu": "h100"}') from error
    return given


def require_managed_keys(config: Config, allow: bool) -> None:
    """A cluster takes no key that was made on a laptop: whoever can read the laptop could promote.

    Raises:
        Refused: the policy accepts local keys and nobody allowed it.
    """
    if config.policy.accept_local_keys and not allow:
        raise Refused(
            "policy.accept_local_keys",
            "true",
            "false for a cluster",
            "Set it to false and give evaluate, gate and promote managed keys (resources.secrets, or a KMS URI), "
            "or pass --allow-local-keys for a trial.",
        )


def local_sources(config: Config) -> list[str]:
    """Sources that lie on this machine, where no pod will find them."""
    return [
        source.name
        for source in config.sources
        if "://" not in source.uri or source.uri.startswith("file://") or Path(source.uri).exists()
    ]


def require_cron(text: str) -> str:
    """A cron expression of six fields, seconds first; one of five starts at second 0.

    Raises:
        UnfitInput: another number of fields, or characters that no field has.
    """
    fields = text.split()
    if len(fields) not in (5, 6) or not all(re.fullmatch(r"[0-9A-Za-z*/,?-]+", field) for field in fields):
        raise UnfitInput("--cron", repr(text), "five fields (minute first) or six (second first), such as '0 3 * * *'")
    return " ".join(fields if len(fields) == 6 else ["0", *fields])
