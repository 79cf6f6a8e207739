"""Which tasks a compiled pipeline calls for, worked out apart from the engine that runs it.

The engine evaluates conditions by pasting values into Python's ``eval`` and takes what it cannot resolve for false.
Here a condition is a conjunction of comparisons with a constant text, every group of branches ends in an Else, and
anything else is refused before the first task runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from assay.errors import AssayError, UnfitInput

PREFIX = "comp-"
_CLAUSE = re.compile(r"(!\()?inputs\.parameter_values\['(?P<name>[^']+)'\] (?P<sign>[=!]=) '(?P<text>[^'\\]*)'(?(1)\))")
_AND = " && "

Outputs = Mapping[str, Mapping[str, Any]]

__all__ = ["PREFIX", "called_for", "check_branches"]


def check_branches(spec: Mapping[str, Any]) -> None:
    """Refuse what this machine's engine would get wrong in silence.

    Args:
        spec: the compiled pipeline, as plain data.

    Raises:
        UnfitInput: an If without an Else, a condition that is no comparison with text, or a loop.
    """
    for name, dag in _dags(spec):
        conditions = {task: body["triggerPolicy"]["condition"] for task, body in _conditional(dag)}
        for task, condition in conditions.items():
            if not all(_CLAUSE.fullmatch(clause) for clause in condition.split(_AND)):
                raise UnfitInput(
                    f"{name}: {task}", f"the condition {condition}", "comparisons of an output with a text"
                )
        if conditions and not any(_is_else(condition) for condition in conditions.values()):
            raise UnfitInput(
                f"{name}: {', '.join(conditions)}",
                "an If without an Else",
                "both",
                "A condition that cannot be resolved would be skipped in silence, and the run called a success.",
            )
        for task, body in dag["tasks"].items():
            if "parameterIterator" in body or "artifactIterator" in body:
                raise UnfitInput(f"{name}: {task}", "a loop", "a pipeline without one on this machine")


def called_for(spec: Mapping[str, Any], arguments: Mapping[str, Any], outputs: Outputs) -> set[str]:
    """The tasks that had to run, given what those that ran put out.

    Args:
        spec: the compiled pipeline, checked by `check_branches`.
        arguments: of the run.
        outputs: output parameters by task and name.

    Raises:
        AssayError: a condition hangs on a value that no task gave.
    """
    found: set[str] = set()
    _walk(spec, spec["root"]["dag"], _with_defaults(spec["root"], arguments), outputs, found)
    return found


def _walk(
    spec: Mapping[str, Any], dag: Mapping[str, Any], inputs: Mapping[str, Any], outputs: Outputs, found: set[str]
) -> None:
    for name, task in dag["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        given = _resolve(task, dag, inputs, outputs)
        condition = task.get("triggerPolicy", {}).get("condition")
        if condition and not all(_holds(clause, given, name) for clause in condition.split(_AND)):
            continue
        if "dag" in component:
            _walk(spec, component["dag"], _with_defaults(component, given), outputs, found)
        elif "container" in spec["deploymentSpec"]["executors"][component["executorLabel"]]:
            found.add(task["componentRef"]["name"].removeprefix(PREFIX))


def _resolve(
    task: Mapping[str, Any], dag: Mapping[str, Any], inputs: Mapping[str, Any], outputs: Outputs
) -> dict[str, Any]:
    """The parameters a task is given; one that comes from nowhere known is left out."""
    given: dict[str, Any] = {}
    for name, origin in task.get("inputs", {}).get("parameters", {}).items():
        if "componentInputParameter" in origin:
            key = origin["componentInputParameter"]
            given |= {name: inputs[key]} if key in inputs else {}
        elif "taskOutputParameter" in origin:
            producer = dag["tasks"][origin["taskOutputParameter"]["producerTask"]]["componentRef"]["name"]
            key = origin["taskOutputParameter"]["outputParameterKey"]
            values = outputs.get(producer.removeprefix(PREFIX), {})
            given |= {name: values[key]} if key in values else {}
        elif "constant" in origin.get("runtimeValue", {}):
            given[name] = origin["runtimeValue"]["constant"]
    return given


def _holds(clause: str, given: Mapping[str, Any], task: str) -> bool:
    match = _CLAUSE.fullmatch(clause)
    if match is None or match["name"] not in given:
        raise AssayError(f"{task}: condition {clause}", "no value for it", "the output of a task that ran")
    equal = bool(given[match["name"]] == match["text"])
    return (equal == (match["sign"] == "==")) != clause.startswith("!")


def _is_else(condition: str) -> bool:
    return all(clause.startswith("!(") for clause in condition.split(_AND))


def _conditional(dag: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, task) for name, task in dag["tasks"].items() if task.get("triggerPolicy", {}).get("condition")]


def _dags(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield spec["pipelineInfo"]["name"], spec["root"]["dag"]
    for name, component in spec["components"].items():
        if "dag" in component:
            yield name.removeprefix(PREFIX), component["dag"]


def _with_defaults(component: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    parameters = component.get("inputDefinitions", {}).get("parameters", {})
    defaults = {name: body["defaultValue"] for name, body in parameters.items() if "defaultValue" in body}
    return {**defaults, **given}
