"""Which tasks a pipeline calls for, and why a task failed: by hand-made specifications and logs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import AssayError, UnfitInput
from assay.runner.branches import called_for, check_branches
from assay.runner.cause import failure_of

GATE = "inputs.parameter_values['pipelinechannel--gate-Output']"


def spec(*conditions: str) -> dict[str, Any]:
    """A gate, and one task ``leaf-<n>`` behind each condition."""
    origin = {"taskOutputParameter": {"producerTask": "gate", "outputParameterKey": "Output"}}
    inputs = {"parameters": {"pipelinechannel--gate-Output": origin}}
    components: dict[str, Any] = {"comp-gate": {"executorLabel": "run"}}
    tasks: dict[str, Any] = {"gate": {"componentRef": {"name": "comp-gate"}}}
    for number, condition in enumerate(conditions):
        components[f"comp-leaf-{number}"] = {"executorLabel": "run"}
        components[f"comp-condition-{number}"] = {
            "dag": {"tasks": {"leaf": {"componentRef": {"name": f"comp-leaf-{number}"}}}}
        }
        tasks[f"condition-{number}"] = {
            "componentRef": {"name": f"comp-condition-{number}"},
            "inputs": inputs,
            "triggerPolicy": {"condition": condition},
        }
    return {
        "pipelineInfo": {"name": "made-by-hand"},
        "components": components,
        "deploymentSpec": {"executors": {"run": {"container": {}}}},
        "root": {"dag": {"tasks": tasks}},
    }


CHAIN = spec(
    f"{GATE} == 'promote'",
    f"!({GATE} == 'promote') && {GATE} == 'reject'",
    f"!({GATE} == 'promote') && !({GATE} == 'reject')",
)


@given(st.text())
def test_of_if_elif_else_exactly_the_right_branch_is_called_for(answer: str) -> None:
    check_branches(CHAIN)
    leaf = {"promote": "leaf-0", "reject": "leaf-1"}.get(answer, "leaf-2")
    assert called_for(CHAIN, {}, {"gate": {"Output": answer}}) == {"gate", leaf}


def test_unequal_is_understood() -> None:
    pair = spec(f"{GATE} != 'promote'", f"!({GATE} != 'promote')")
    check_branches(pair)
    assert called_for(pair, {}, {"gate": {"Output": "x"}}) == {"gate", "leaf-0"}
    assert called_for(pair, {}, {"gate": {"Output": "promote"}}) == {"gate", "leaf-1"}


@pytest.mark.parametrize(
    "condition",
    [
        f"{GATE} == 'promote' || {GATE} == 'reject'",
        f"{GATE} == true",
        f"int({GATE}) > 1",
        f"{GATE} == 'it\\'s'",
        f"{GATE} == 'a' or 'a' == 'a'",
    ],
)
def test_a_condition_of_another_form_is_refused(condition: str) -> None:
    with pytest.raises(UnfitInput, match="comparisons of an output with a text"):
        check_branches(spec(condition, f"!({GATE} == 'x')"))


def test_a_lone_condition_is_refused_by_name() -> None:
    with pytest.raises(UnfitInput, match=r"made-by-hand: condition-0: got an If without an Else"):
        check_branches(spec(f"{GATE} == 'promote'"))


def test_a_condition_on_a_value_that_nobody_gave_is_an_error() -> None:
    with pytest.raises(AssayError, match="no value for it"):
        called_for(CHAIN, {}, {"gate": {}})


TRACE = 'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n    raise\n'


@pytest.mark.parametrize(
    ("said", "error", "message", "code"),
    [
        (f"{TRACE}assay.errors.UnfitInput: x: got 1, need 2.\n", "UnfitInput", "x: got 1, need 2.", 2),
        (f"{TRACE}assay.errors.Refused: no\n", "Refused", "no", 1),
        (f"{TRACE}assay.errors.Conflict: taken\n", "Conflict", "taken", 2),
        (f"{TRACE}somebody.errors.Refused: no\n", "Refused", "no", 3),
        (f"{TRACE}KeyError: 'a'\n\nDuring handling\n\n{TRACE}assay.errors.Unreachable: b\n", "Unreachable", "b", 3),
        (f"{TRACE}ValueError\n", "ValueError", "", 3),
        (f"{TRACE}assay.errors.UnfitInput: two\n  lines: here\n", "UnfitInput", "two lines: here", 2),
        ("only\nwords\n\n", "Failed", "exit status 1: words", 3),
        ("", "Failed", "exit status 1: it said nothing", 3),
    ],
)
def test_the_last_error_raised_is_the_cause(said: str, error: str, message: str, code: int) -> None:
    failure = failure_of("step", said, 1)
    assert (failure.error, failure.message, failure.exit_code) == (error, message, code)


@given(st.text(), st.integers(-15, 255).filter(bool))
def test_whatever_a_task_said_there_is_a_cause(said: str, status: int) -> None:
    failure = failure_of("step", said + TRACE * (status % 2), status)
    assert failure.error
    assert failure.exit_code in (1, 2, 3)
