"""``assay run``: a whole pipeline on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli._shared import Json, answer, leave, notes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assay.config import Config
    from assay.estimate import Estimate
    from assay.runner.result import RunResult
    from assay.workspace import Workspace

EXIT = {"promote": 0, "reject": 1, "inconclusive": 3, "continue": 0, "watch": 0, "investigate": 1, "undecided": 3}
EXIT |= {"scored": 0}


def command(
    pipeline: Annotated[str, typer.Argument(help="Which pipeline; see assay compile --help.")] = "robust_training",
    config: Annotated[Path | None, typer.Option(help="assay.yaml; without one, the built-in example.")] = None,
    example: Annotated[str, typer.Option(help="Which built-in example.")] = "digits",
    clean: Annotated[bool, typer.Option("--clean", help="The example without what it plants.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key.key=value over the configuration.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="name=value of a pipeline parameter.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the configuration and leave.")] = False,
    json: Json = False,
) -> None:
    """Run a pipeline on this machine: the same steps as on a cluster, one process a step."""
    from assay.config import Config
    from assay.config.members import require_members
    from assay.examples.place import place
    from assay.kubeflow.submission import parse_given
    from assay.workspace import Workspace

    workspace = Workspace.from_env()
    planted, file = False, config
    if file is None:
        placed = place(example, workspace.home, clean=clean)
        file, planted = placed.config, bool(placed.planted)
        notes.print(f"no --config given: the built-in example {example!r}, {file}")
    parsed = Config.load(file, set_ or [])
    if config is not None or set_:
        require_members(parsed)
    if check:
        answer({"config": str(file), "digest": parsed.digest}, json, [f"{file} holds, digest {parsed.digest}"])
        return
    for made in workspace.initialise():
        notes.print(f"made {made}")
    document, lines = _run(pipeline, parsed, parse_given(param or []), workspace, planted)
    answer(document, json, lines)
    leave(EXIT.get(document["decision"], 3))


def _run(
    name: str, config: Config, given: dict[str, Any], workspace: Workspace, planted: bool
) -> tuple[dict[str, Any], list[str]]:
    """Run and tell: the JSON document, and the lines for people."""
    from assay import local_run, mlflow_mirror
    from assay.cli._run_view import progress_line
    from assay.kubeflow.pipelines import load
    from assay.runner import arguments
    from assay.runner.run import pipeline_spec, run_pipeline

    alone = {"evaluate_shards": 1, "score_shards": 1}  # threads share it here
    pipeline = load(name, config.resources.model_copy(update=alone))
    run = local_run.run_id(config, name, given)
    values = {**arguments.select(arguments.from_config(config), pipeline_spec(pipeline)), **given}
    notes.print(f"run {run}")
    environment = {**workspace.environment(), "ASSAY_RUN_ID": run, mlflow_mirror.DEFER: "1"}
    mlflow_mirror.flush(workspace)  # what an interrupted run left, while the files it names are still there
    with local_run.exclusive(local_run.run_folder(workspace, run)) as folder:
        try:
            result = run_pipeline(pipeline, values, folder=folder, environment=environment, on_step=progress_line)
        finally:
            mlflow_mirror.flush(workspace)
        result.require()
        if result.ran("score_features"):
            return _scored(run, name, result)
        if not result.ran("gate"):
            return _action(run, name, result)
        return _training(run, config, result, workspace, planted)


def _training(
    run: str, config: Config, result: RunResult, workspace: Workspace, planted: bool
) -> tuple[dict[str, Any], list[str]]:
    """A run that came to a decision: its summary, the comparison that the example adds, its report."""
    from assay import local_run
    from assay.cli._run_view import lines_of
    from assay.errors import redacted
    from assay.report.inputs import ReportInputs
    from assay.report.page import write_report

    found = {(task.name, name): path for task in result.tasks.values() for name, path in task.artifacts.items()}
    document = local_run.summary(run, config, found, workspace.ledger)
    extra = _unfiltered(config, found) if planted and config.evaluate.triggers else {}
    document["estimates"] |= {name: estimate.to_json() for name, estimate in extra.items()}
    page = result.folder / "report.html"
    write_report(ReportInputs.found(found, extra), page, title=config.promote.model, run=run)
    document |= {"report": str(page), "log": str(result.log)}
    commands = [
        f"MLflow   mlflow ui --backend-store-uri {redacted(workspace.tracking_uri)}",
        *(f"trace    assay trace source:{name}" for name in document["quarantined"]),
        *(f"approve  assay approve {found['gate', 'decision']}, then run this again" for _ in _waiting(document)),
    ]
    return document, lines_of(document, commands)


def _waiting(document: Mapping[str, Any]) -> list[str]:
    """The rules that only wait for people."""
    return [
        rule["rule"] for rule in document["rules"] if (rule["rule"], rule["verdict"]) == ("approved", "not_measured")
    ]


def _unfiltered(config: Config, found: Mapping[tuple[str, str], Path]) -> dict[str, Estimate]:
    """The example's comparison: the same training without the filter."""
    from assay.examples.unfiltered import backdoor_success_unfiltered

    notes.print("train without the filter, for comparison")
    return backdoor_success_unfiltered(
        config,
        sanitized=found["sanitize", "kept"],
        calibration=found["ingest", "calibration"],
        holdout=found["ingest", "holdout"],
    )


def _scored(run: str, name: str, result: RunResult) -> tuple[dict[str, Any], list[str]]:
    """A run that gives scores and decides nothing."""
    scores = str(result.artifact("score_features", "scores"))
    document = {"run_id": run, "pipeline": name, "decision": "scored", "scores": scores, "log": str(result.log)}
    return document, [f"scores   {scores}", f"log      {result.log}"]


def _action(run: str, name: str, result: RunResult) -> tuple[dict[str, Any], list[str]]:
    """A run that ended without training: what monitor or contain called for."""
    action = str(result.parameter("record_action"))
    document = {
        "run_id": run,
        "pipeline": name,
        "decision": action,
        "tasks": list(result.tasks),
        "log": str(result.log),
    }
    return document, [f"{action}: {name} ended without training", f"log      {result.log}"]
