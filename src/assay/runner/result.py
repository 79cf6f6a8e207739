"""What a run was: which tasks ran, what each gave, and why it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from assay.errors import AssayError, UnknownName

__all__ = ["Failure", "RunResult", "StepEvent", "StepFailed", "TaskResult"]


@dataclass(frozen=True)
class StepEvent:
    """A task began or ended.

    Fields:
        task: its name in the pipeline, such as ``filter-poison``.
        state: ``started``, ``succeeded`` or ``failed``.
        seconds: since it started.
    """

    task: str
    state: Literal["started", "succeeded", "failed"]
    seconds: float = 0.0


@dataclass(frozen=True)
class TaskResult:
    """What one task gave.

    Fields:
        name: of the task in the pipeline.
        state: ``succeeded`` only with an exit status of 0 and the record that KFP writes last.
        seconds: wall clock.
        parameters: outputs by name; a single unnamed one is ``Output``.
        artifacts: path of each output artifact that exists, by name.
    """

    name: str
    state: Literal["succeeded", "failed"]
    seconds: float
    parameters: Mapping[str, Any]
    artifacts: Mapping[str, Path]


@dataclass(frozen=True)
class Failure:
    """Why a run stopped.

    Fields:
        task: that failed.
        error: class of the error, such as ``UnfitInput``.
        message: what it said.
        exit_code: what the command line leaves with: that of the error when it is one of assay's, else 3.
    """

    task: str
    error: str
    message: str
    exit_code: int


class StepFailed(AssayError):
    """A step of a pipeline failed; leaves with the exit code of the step's own error.

    Attributes:
        failure: which, and why.
    """

    def __init__(self, failure: Failure, log: Path) -> None:
        said = f"{failure.error}: {failure.message.rstrip('.')}"
        super().__init__(f"step {failure.task}: {said}", fix=f"The whole log: {log}")
        self.failure = failure
        self.exit_code = failure.exit_code


@dataclass(frozen=True)
class RunResult:
    """A run that ended by itself.

    Fields:
        tasks: every task that was started, in order.
        failure: why it stopped short, or None.
        folder: holds everything of the run.
        log: all that the tasks and the engine said.
    """

    tasks: Mapping[str, TaskResult]
    failure: Failure | None
    folder: Path
    log: Path

    def require(self) -> RunResult:
        """The run itself when it went to its end.

        Raises:
            StepFailed: a step failed.
        """
        if self.failure is not None:
            raise StepFailed(self.failure, self.log)
        return self

    def ran(self, task: str) -> bool:
        """Whether the task ran and succeeded; ``filter_poison`` and ``filter-poison`` are one name."""
        found = self.tasks.get(_spelt(task))
        return found is not None and found.state == "succeeded"

    def artifact(self, task: str, name: str) -> Path:
        """Path of an output artifact.

        Raises:
            UnknownName: no such task ran, or it gave no such artifact.
        """
        artifacts = self._task(task).artifacts
        if name not in artifacts:
            raise UnknownName(f"artifact of task {task}", name, artifacts)
        return artifacts[name]

    def parameter(self, task: str, name: str = "Output") -> Any:
        """Value of an output parameter.

        Raises:
            UnknownName: no such task ran, or it gave no such parameter.
        """
        parameters = self._task(task).parameters
        if name not in parameters:
            raise UnknownName(f"output of task {task}", name, parameters)
        return parameters[name]

    def _task(self, name: str) -> TaskResult:
        if _spelt(name) not in self.tasks:
            raise UnknownName("task of this run", name, self.tasks)
        return self.tasks[_spelt(name)]


def _spelt(task: str) -> str:
    """KFP spells a step's name with hyphens."""
    return task.replace("_", "-")
