"""What a step read and wrote: first into the ledger, then, as a copy, into MLflow.

    with lineage.step("sanitize", run) as record:
        record.uses(dataset, "training")
        ...
        record.makes(kept, "training")

Nothing is written when the block fails but the failed MLflow run. An unreachable MLflow never fails a step: the record
goes to the outbox, a warning is printed, and the next step that reaches MLflow delivers it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from assay import canonical
from assay.data.findings import Finding, findings_bytes
from assay.data.manifest import Manifest
from assay.errors import UnfitInput, redacted
from assay.ledger import Ledger, put_document, require_ledger_name
from assay.workspace import Workspace

__all__ = ["Named", "Recorded", "StepRecord", "ancestors", "put_dataset", "put_findings", "run_id", "step"]


class Named(Protocol):
    """A dataset in memory or one that is read, or was written, part by part."""

    @property
    def manifest(self) -> Manifest:
        """What names it."""
        ...


class Recorded(Named, Protocol):
    """One whose list of records can go into the ledger."""

    def record_list(self) -> bytes:
        """Parquet bytes of the columns ``batch`` and ``row``; equal records give equal bytes."""
        ...


@dataclass
class StepRecord:
    """What one step read and wrote; filled by the step, delivered when it ends.

    Fields:
        step: name of the step; run: id of the pipeline run, or empty for a verb on its own.
        inputs, outputs: kind and digest, such as ``("dataset", "41d7...", "training")``, with the context.
        params, metrics, tags, artifacts: copies for people, in MLflow.
        started_ms, ended_ms: wall clock, epoch milliseconds.
        status: ``FINISHED`` or ``FAILED``.
    """

    step: str
    run: str
    workspace: Workspace
    inputs: list[tuple[str, str, str]] = field(default_factory=list)
    outputs: list[tuple[str, str, str]] = field(default_factory=list)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    started_ms: int = 0
    ended_ms: int = 0
    status: str = "FINISHED"

    @property
    def ledger(self) -> Ledger:
        """The ledger of the workspace."""
        return self.workspace.ledger

    def uses(self, dataset: Named, context: str) -> None:
        """The step reads a dataset, as ``training``, ``calibration``, ``holdout``, ``reference`` or ``current``."""
        self.inputs.append(("dataset", dataset.manifest.digest, context))
        self._note(dataset, context, "read")

    def makes(self, dataset: Recorded, context: str) -> None:
        """The step writes a dataset: its manifest and record list go into the ledger now."""
        put_dataset(self.ledger, dataset)
        self.outputs.append(("dataset", dataset.manifest.digest, context))
        self._note(dataset, context, "made")

    def finds(self, findings: Iterable[Finding]) -> str:
        """The step gives its reasons: the findings go into the ledger now; see `put_findings`."""
        return put_findings(self.ledger, findings)

    def finds_bytes(self, data: bytes) -> str:
        """As `finds`, for findings in the form of `findings_bytes`; nothing where there are none."""
        return put_findings_bytes(self.ledger, data) if data else ""

    def reads(self, kind: str, digest: str, context: str = "") -> None:
        """The step reads something that is no dataset: a model, evidence, a decision."""
        self.inputs.append((kind, digest, context))

    def writes(self, kind: str, digest: str, context: str = "") -> None:
        """The step wrote something that is no dataset; the caller has put it into the ledger."""
        self.outputs.append((kind, digest, context))

    def shows(self, path: Path | str) -> None:
        """A file or folder to copy beside the MLflow run."""
        self.artifacts.append(str(path))

    def _note(self, dataset: Named, context: str, direction: str) -> None:
        content = dataset.manifest.content
        self.datasets.append(
            {
                "digest": dataset.manifest.digest,
                "content_digest": dataset.manifest.content_digest,
                "context": context,
                "direction": direction,
                "records": content.records,
                "columns": [column.name for column in content.columns],
                "sources": [f"{share.source}/{share.batch}" for share in dataset.manifest.history.sources],
            }
        )


def run_id(given: str = "") -> str:
    """The id of the pipeline run: ``ASSAY_RUN_ID``, else what the pipeline passes, else empty."""
    return os.environ.get("ASSAY_RUN_ID") or given


@contextmanager
def step(name: str, run: str = "", workspace: Workspace | None = None) -> Iterator[StepRecord]:
    """Record one step; see the module.

    Args:
        name: of the step.
        run: what the pipeline passes as run id; `run_id` decides.
        workspace: default from the environment.

    Raises:
        UnfitInput: a run id that is no plain name.
    """
    from assay import mlflow_mirror

    record = StepRecord(name, _plain(run_id(run)), workspace or Workspace.from_env(), started_ms=_now_ms())
    try:
        yield record
    except BaseException as error:
        record.status, record.ended_ms = "FAILED", _now_ms()
        record.tags["assay.error"] = redacted(f"{type(error).__name__}: {error}")[:1000]
        mlflow_mirror.deliver(record)
        raise
    _put_step(record)
    record.ended_ms = _now_ms()
    mlflow_mirror.deliver(record)


def put_dataset(ledger: Ledger, dataset: Recorded) -> None:
    """Bind a dataset's manifest and record list in the ledger."""
    ledger.put(f"records/{dataset.manifest.content_digest}.parquet", dataset.record_list())
    put_document(ledger, f"manifests/{dataset.manifest.digest}.json", dataset.manifest.to_json())


def ancestors(dataset: str, ledger: Ledger) -> dict[str, Manifest]:
    """The manifests of a dataset and of every one it was made from, by digest, read from the ledger.

    Raises:
        UnfitInput: one is missing, or is another than its name says.
    """
    found: dict[str, Manifest] = {}
    ahead = [dataset]
    while ahead:
        digest = ahead.pop()
        if digest not in found:
            name = f"manifests/{digest}.json"
            found[digest] = Manifest.from_json(canonical.loads(ledger.get(name), name), name)
            if found[digest].digest != digest:
                raise UnfitInput(f"ledger {name}", f"manifest {found[digest].digest[:12]}", "the one its name says")
            ahead += found[digest].history.parents
    return found


def put_findings(ledger: Ledger, findings: Iterable[Finding]) -> str:
    """Bind a list of findings in the ledger; returns its SHA-256, or an empty text when there are none.

    The SHA-256 is the one that `assay.data.findings.split` writes into the history of both parts.
    """
    listed = sorted(set(findings))
    if not listed:
        return ""
    return put_findings_bytes(ledger, findings_bytes(listed))


def put_findings_bytes(ledger: Ledger, data: bytes) -> str:
    """As `put_findings`, for findings in the form of `findings_bytes`."""
    name = canonical.sha256(data)
    ledger.put(f"findings/{name}.parquet", data)
    return name


def _put_step(record: StepRecord) -> None:
    if not record.run:
        return
    document: Mapping[str, Any] = {
        "schema": "assay.step/v1",
        "run": record.run,
        "step": record.step,
        "inputs": [{"kind": kind, "digest": digest, "context": context} for kind, digest, context in record.inputs],
        "outputs": [{"kind": kind, "digest": digest, "context": context} for kind, digest, context in record.outputs],
    }
    put_document(record.ledger, f"runs/{record.run}/{record.step}-{canonical.digest(document)[:16]}.json", document)


def _plain(run: str) -> str:
    """A run id that may name a folder of the ledger, or none."""
    if run and "/" in require_ledger_name(run):
        raise UnfitInput("run id", repr(run), "a name without slashes")
    return run


def _now_ms() -> int:
    return int(time.time() * 1000)
