"""The copy of lineage that MLflow shows: one parent run per pipeline run, one nested run per step.

Every finished step is first written whole into ``<home>/outbox``, then delivered, then taken out. So a step that is
killed, or that finds no MLflow, loses nothing: whoever delivers next delivers what waits, oldest first. Delivery is
idempotent (`assay.mlflow_copy`), hence each record shows up exactly once. One process of a home delivers at a time.

Loading MLflow costs each process seconds. A run on one machine therefore sets ``ASSAY_MLFLOW_DEFER``: its steps leave
their records in the outbox, and the process that runs them delivers all at its end (`flush`).
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from assay import canonical
from assay.data.files import write_file
from assay.errors import UnfitInput, redacted
from assay.mlflow_copy import Rejected, copy_entry, entry_of

if TYPE_CHECKING:
    from assay.lineage import StepRecord
    from assay.workspace import Workspace

DEFER = "ASSAY_MLFLOW_DEFER"
LOCK_WAIT_S = 30.0

__all__ = ["DEFER", "deliver", "flush"]

_log = logging.getLogger("assay.mlflow")


def deliver(record: StepRecord) -> None:
    """Copy a finished step to MLflow, after whatever waits in the outbox; never raises for MLflow's sake.

    A verb on its own (no run id, no MLFLOW_RUN_ID) leaves no trace there. Without an answer within about 15 seconds
    the record stays in the outbox and a warning goes to standard error.
    """
    if not record.run and not os.environ.get("MLFLOW_RUN_ID"):
        return
    uri, outbox = record.workspace.tracking_uri, record.workspace.home / "outbox"
    entry = entry_of(record)
    try:
        _enter(outbox, entry)
        if os.environ.get(DEFER):
            return
        with _alone(outbox):
            failure = _deliver_all(outbox, uri, record.workspace.home)
    except OSError:  # a home that cannot be written: no outbox, so one try
        failure = _attempt(entry, uri, record.workspace.home)
    _tell(failure, outbox, uri)


def flush(workspace: Workspace) -> None:
    """Deliver what waits in the outbox; like `deliver` it never raises for MLflow's sake."""
    uri, outbox = workspace.tracking_uri, workspace.home / "outbox"
    if not outbox.is_dir() or not _waiting(outbox, uri):
        return
    try:
        with _alone(outbox):
            failure: Exception | None = _deliver_all(outbox, uri, workspace.home)
    except OSError as error:
        failure = error
    _tell(failure, outbox, uri)


def _tell(failure: Exception | None, outbox: Path, uri: str) -> None:
    if failure is not None:
        waiting = len(_waiting(outbox, uri))
        _log.warning(
            "MLflow at %s: %s: %s. %d step record(s) wait in %s; the next step that reaches MLflow delivers them.",
            redacted(uri),
            type(failure).__name__,
            redacted(" ".join(str(failure).split()))[:300],
            waiting,
            outbox,
        )


def _enter(outbox: Path, entry: dict[str, Any]) -> None:
    data = canonical.dumps(entry)
    owner = entry["run"] or f"mlflow-{entry['mlflow_run']}"
    write_file(outbox / f"{owner}-{entry['step']}-{canonical.sha256(data)[:16]}.json", data)


def _deliver_all(outbox: Path, uri: str, home: Path) -> Exception | None:
    """Deliver entries, oldest first, until none is left that has not been tried; returns the last failure."""
    failure: Exception | None = None
    tried: set[Path] = set()
    while fresh := [item for item in _waiting(outbox, uri) if item[0] not in tried]:
        for path, entry in fresh:
            tried.add(path)
            problem = _attempt(entry, uri, home)
            if problem is None:
                path.unlink(missing_ok=True)
                continue
            failure = problem
            if not isinstance(problem, Rejected):
                return failure
    return failure


def _attempt(entry: dict[str, Any], uri: str, home: Path) -> Exception | None:
    try:
        copy_entry(entry, uri, home)
    except Exception as error:  # MLflow, its database driver and its HTTP client raise their own kinds
        return error
    return None


def _waiting(outbox: Path, uri: str) -> list[tuple[Path, dict[str, Any]]]:
    """The entries for this tracking store, oldest first; a file that is no entry is left alone."""
    found = []
    for path in sorted(outbox.glob("*.json")):
        try:
            entry = canonical.require_schema(canonical.read(path), "assay.outbox", str(path))
        except UnfitInput as error:
            if path.exists():
                _log.warning("outbox: %s", error)
            continue
        if entry["tracking"] == canonical.sha256(uri.encode()):
            found.append((path, entry))
    return sorted(found, key=lambda item: (item[1]["ended_ms"], item[0].name))


@contextmanager
def _alone(outbox: Path) -> Iterator[None]:
    """Hold the outbox's lock; it falls with the process, so a kill never leaves it held."""
    waiting = Retrying(
        retry=retry_if_exception_type(BlockingIOError),
        stop=stop_after_delay(LOCK_WAIT_S),
        wait=wait_fixed(0.05),
        reraise=True,
    )
    with (outbox / ".lock").open("w") as handle:
        waiting(fcntl.flock, handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
