"""Every branch of every pipeline, run by the real engine over components that only answer: WHICH tasks ran."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from stub_components import stub, stubbed_pipelines

from assay.cli.run import _action
from assay.components import STEPS
from assay.config.resources import Resources
from assay.errors import AssayError
from assay.runner.result import RunResult, StepFailed
from assay.runner.run import pipeline_spec, run_pipeline
from assay.runner.zygote import ALWAYS

SPINE = {"ingest", "sanitize", "filter-poison", "train", "evaluate", "gate", "report"}
LONG = pytest.mark.slow  # the same branch again, by another answer
GIVEN = {"sources": "[]", "target": "{}"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    modules = stubbed_pipelines(monkeypatch)
    monkeypatch.setattr("assay.runner.run.modules_of", lambda _: ALWAYS)  # stubs import nothing

    def go(name: str, **arguments: str) -> RunResult:
        return run_pipeline(modules[name].build(Resources()), {**GIVEN, **arguments}, folder=tmp_path / "run")

    return go


@pytest.mark.parametrize("step", STEPS)
def test_a_stub_has_the_interface_of_the_component_it_stands_for(step: str) -> None:
    real = getattr(importlib.import_module(f"assay.components.{step}.component"), step)
    for side in ("inputDefinitions", "outputDefinitions"):
        (own,) = pipeline_spec(real)["components"].values()
        (standing,) = pipeline_spec(stub(step))["components"].values()
        assert _types(own.get(side, {})) == _types(standing.get(side, {}))


def _types(definitions: dict[str, Any]) -> dict[str, Any]:
    """Names and types without descriptions."""
    return {
        kind: {name: {k: v for k, v in body.items() if k != "description"} for name, body in entries.items()}
        for kind, entries in definitions.items()
    }


@pytest.mark.parametrize(
    ("decision", "last"),
    [("promote", "promote"), ("reject", "withhold"), pytest.param("inconclusive", "withhold", marks=LONG)],
)
def test_robust_training_promotes_only_on_promote(run: Any, decision: str, last: str) -> None:
    result = run("robust_training", policy=decision).require()
    assert set(result.tasks) == SPINE | {last}


@pytest.mark.parametrize(("decision", "last"), [("promote", "promote"), pytest.param("reject", "withhold", marks=LONG)])
def test_drift_calls_the_whole_training(run: Any, tmp_path: Path, decision: str, last: str) -> None:
    folder = str(tmp_path)
    result = run("retrain_on_drift", reference=folder, current=folder, monitor="retrain", policy=decision).require()
    assert set(result.tasks) == {"monitor"} | SPINE | {last}


@pytest.mark.parametrize(
    "action", ["continue", *(pytest.param(action, marks=LONG) for action in ("watch", "investigate", "undecided"))]
)
def test_every_other_answer_of_monitor_is_only_recorded(run: Any, tmp_path: Path, action: str) -> None:
    folder = str(tmp_path)
    result = run("retrain_on_drift", reference=folder, current=folder, monitor=action, policy="promote").require()
    assert set(result.tasks) == {"monitor", "record-action"}
    assert _action("run", "retrain_on_drift", result)[0]["decision"] == action


@pytest.mark.parametrize(("decision", "last"), [("promote", "promote"), pytest.param("reject", "withhold", marks=LONG)])
def test_an_incident_that_serves_calls_the_whole_training(run: Any, decision: str, last: str) -> None:
    result = run("respond_to_incident", ref="source:x", reason="retrain", policy=decision).require()
    assert set(result.tasks) == {"contain"} | SPINE | {last}


@pytest.mark.parametrize("action", [pytest.param("investigate", marks=LONG), "continue"])
def test_an_incident_that_serves_nowhere_is_only_recorded(run: Any, action: str) -> None:
    result = run("respond_to_incident", ref="source:x", reason=action, policy="promote").require()
    assert set(result.tasks) == {"contain", "record-action"}
    assert _action("run", "respond_to_incident", result)[0]["decision"] == action


def test_monitor_gets_the_folders_that_are_named(run: Any, tmp_path: Path) -> None:
    result = run(
        "retrain_on_drift", reference=str(tmp_path / "no"), current=str(tmp_path), monitor="x", policy="promote"
    )
    assert result.parameter("monitor") == "missing"


@pytest.mark.parametrize(("decision", "last"), [("promote", "promote"), ("reject", "withhold")])
def test_evaluate_and_promote_takes_the_same_two_ways(run: Any, decision: str, last: str) -> None:
    result = run("evaluate_and_promote", model="folder", policy=decision).require()
    assert set(result.tasks) == {"import-model", "ingest", "evaluate", "gate", last}


def test_an_answer_that_the_engine_misreads_is_no_success(run: Any) -> None:
    """A quote breaks the engine's conditions: no branch runs, and it calls that a success."""
    with pytest.raises(AssayError, match="withhold, which the outputs call for"):
        run("robust_training", policy="it's")


def test_an_answer_that_would_run_as_code_does_not_promote(run: Any) -> None:
    """The engine pastes values into ``eval``: this one makes its comparison true."""
    with pytest.raises(AssayError, match="The engine misread a condition"):
        run("robust_training", policy="x' or 'a' == 'a")


@pytest.mark.parametrize(
    ("error", "code"),
    [("Refused", 1), pytest.param("UnfitInput", 2, marks=LONG), pytest.param("Unreachable", 3, marks=LONG)],
)
def test_a_failing_step_ends_the_run_with_its_own_exit_code(run: Any, error: str, code: int) -> None:
    result = run("robust_training", policy="promote", sanitize=error)
    assert set(result.tasks) == {"ingest", "sanitize"}
    assert not result.ran("sanitize")
    with pytest.raises(StepFailed, match=f"step sanitize: {error}: dataset: got two lines, need one") as raised:
        result.require()
    assert raised.value.exit_code == code


def test_every_step_of_a_run_is_told_the_same_run(run: Any) -> None:
    run_id = run("robust_training", policy="promote").parameter("promote")
    assert run_id
    assert "{{" not in run_id
