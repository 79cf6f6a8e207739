"""One step record into MLflow, idempotently: through ``MlflowClient`` and run ids, never the fluent API.

The runs of a pipeline run carry the tag ``assay.run``, those of a step ``assay.step`` too. A run that is there is used
again, and of several that raced into being one is kept, so that a repeated or doubled delivery changes nothing. Runs
are made when the step is over and terminated at once: no kill leaves one RUNNING.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from assay import canonical
from assay.errors import AssayError, UnfitInput
from assay.mlflow_store import bounded_client, mlflow_settings

if TYPE_CHECKING:
    from mlflow.entities import Run

    from assay.lineage import StepRecord

SCHEMA = "assay.outbox/v1"
MAX_PARAM, MAX_TAG, MAX_KEY, BATCH = 6000, 8000, 250, 100
DIGEST_DIGITS = 32
REFUSALS = ("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")

__all__ = ["Rejected", "copy_entry", "entry_of"]


class Rejected(AssayError):
    """MLflow answered, and does not take this record."""


def entry_of(record: StepRecord) -> dict[str, Any]:
    """A finished step as plain JSON: what the outbox keeps and `copy_entry` delivers."""
    finite = {name: float(value) for name, value in record.metrics.items() if math.isfinite(value)}
    dropped = sorted(set(record.metrics) - set(finite))
    tags = dict(record.tags) | _dataset_tags(record.datasets)
    return {
        "schema": SCHEMA,
        "tracking": canonical.sha256(record.workspace.tracking_uri.encode()),
        "experiment": {
            "id": os.environ.get("MLFLOW_EXPERIMENT_ID", ""),
            "name": os.environ.get("MLFLOW_EXPERIMENT_NAME", ""),
        },
        "mlflow_run": os.environ.get("MLFLOW_RUN_ID", ""),
        "run": record.run,
        "step": record.step,
        "status": record.status,
        "started_ms": record.started_ms,
        "ended_ms": record.ended_ms,
        "datasets": record.datasets,
        "params": {name: _text(value) for name, value in record.params.items()},
        "metrics": finite,
        "tags": tags | ({"assay.not_finite": ", ".join(dropped)} if dropped else {}),
        "artifacts": [str(Path(path).absolute()) for path in record.artifacts],
    }


def copy_entry(entry: Mapping[str, Any], uri: str, home: Path) -> None:
    """Bring one entry into MLflow.

    Args:
        entry: from `entry_of`.
        uri: of the tracking store.
        home: folder of everything local; a SQLite store keeps its artifacts there.

    Raises:
        Rejected: MLflow answered and said no.
        Exception: it did not answer, or broke; of MLflow's own kinds.
    """
    with mlflow_settings():
        from mlflow.exceptions import MlflowException

        client = bounded_client(uri)
        try:
            if entry["mlflow_run"]:
                run = client.get_run(entry["mlflow_run"])
                _log(client, run, entry, prefix=f"{entry['step']}.")
                return
            parent, nested, others = _runs(client, _experiment(client, entry, uri, home), entry)
            _log(client, nested, entry, prefix="")
            client.set_terminated(nested.info.run_id, entry["status"], entry["ended_ms"])
            failed = entry["status"] == "FAILED" or any(run.info.status == "FAILED" for run in others)
            ended = max([entry["ended_ms"], *(run.info.end_time or 0 for run in others)])
            client.set_terminated(parent.info.run_id, "FAILED" if failed else "FINISHED", ended)
        except MlflowException as error:
            if error.error_code in REFUSALS:
                raise Rejected(f"step {entry['step']}", str(error)) from error
            raise


def _experiment(client: Any, entry: Mapping[str, Any], uri: str, home: Path) -> str:
    from mlflow.exceptions import MlflowException

    if entry["experiment"]["id"]:
        return str(entry["experiment"]["id"])
    name = entry["experiment"]["name"] or "assay"
    local = urlsplit(uri).scheme in ("sqlite", "file", "")
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, (home / "mlartifacts").as_uri() if local else None))
        except MlflowException:  # another process made it in between, or there is a true cause that shows now
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _runs(client: Any, experiment: str, entry: Mapping[str, Any]) -> tuple[Run, Run, list[Run]]:
    """The parent, the nested run of this step, and the nested runs of the other steps; made where missing.

    The oldest of several parents, or of several runs of one step, is kept and the others are deleted; every nested run
    is hung below the parent that stays. So processes that create the same run at once agree in the end.
    """
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    owner = {"assay.run": entry["run"]}
    if not _found(client, experiment, owner, None):
        _make(client, experiment, entry, entry["run"], owner)
    parent = _only(client, _found(client, experiment, owner, None))
    below = {MLFLOW_PARENT_RUN_ID: parent.info.run_id}
    if not _found(client, experiment, owner, entry["step"]):
        _make(client, experiment, entry, entry["step"], owner | below | {"assay.step": entry["step"]})
    nested = _only(client, _found(client, experiment, owner, entry["step"]))
    steps = [run for run in _search(client, experiment, owner) if "assay.step" in run.data.tags]
    for run in steps:
        if run.data.tags.get(MLFLOW_PARENT_RUN_ID) != parent.info.run_id:
            client.set_tag(run.info.run_id, MLFLOW_PARENT_RUN_ID, parent.info.run_id)
    return parent, nested, [run for run in steps if run.data.tags["assay.step"] != entry["step"]]


def _found(client: Any, experiment: str, owner: dict[str, str], step: str | None) -> list[Run]:
    return [run for run in _search(client, experiment, owner) if run.data.tags.get("assay.step") == step]


def _search(client: Any, experiment: str, owner: dict[str, str]) -> list[Run]:
    return list(client.search_runs([experiment], f"tags.\"assay.run\" = '{owner['assay.run']}'", max_results=1000))


def _make(client: Any, experiment: str, entry: Mapping[str, Any], name: str, tags: dict[str, str]) -> None:
    made = client.create_run(experiment, start_time=entry["started_ms"], tags=tags, run_name=name)
    client.set_terminated(made.info.run_id, entry["status"], entry["ended_ms"])


def _only(client: Any, runs: list[Run]) -> Run:
    kept, *doubles = sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))
    for run in doubles:
        client.delete_run(run.info.run_id)
    return kept


def _log(client: Any, run: Run, entry: Mapping[str, Any], prefix: str) -> None:
    """Everything of an entry into one run; what is there already stays as it is."""
    from mlflow.entities import Metric, Param, RunTag

    run_id, folder = run.info.run_id, prefix.rstrip(".")
    tags = dict(entry["tags"])
    if prefix:
        tags |= {"assay.run": entry["run"], f"assay.status.{entry['step']}": entry["status"]}
    params: dict[str, str] = {}
    for name, value in entry["params"].items():
        key = _key(prefix + name)
        text = value if len(value) <= MAX_PARAM else _elsewhere(client, run_id, folder, name, value)
        if run.data.params.get(key, text) != text:
            tags[f"assay.repeated.{key}"] = text  # a parameter is written once; a repetition with another value shows
        else:
            params[key] = text
    for name, value in tags.items():
        tags[name] = value if len(value) <= MAX_TAG else _elsewhere(client, run_id, folder, name, value)
    metrics = [Metric(_key(prefix + name), value, entry["ended_ms"], 0) for name, value in entry["metrics"].items()]
    _log_batches(client, run_id, "params", [Param(key, text) for key, text in params.items()])
    _log_batches(client, run_id, "tags", [RunTag(_key(name), value) for name, value in tags.items()])
    _log_batches(client, run_id, "metrics", metrics)
    _log_datasets(client, run_id, entry["datasets"])
    for path in entry["artifacts"]:
        _log_artifact(client, run_id, Path(path), folder)


def _log_batches(client: Any, run_id: str, kind: str, items: Sequence[Any]) -> None:
    for start in range(0, len(items), BATCH):
        client.log_batch(run_id, **{kind: items[start : start + BATCH]}, synchronous=True)


def _log_datasets(client: Any, run_id: str, datasets: Sequence[Mapping[str, Any]]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for dataset in datasets:
        sources = sorted({share.partition("/")[0] for share in dataset["sources"]})
        entity = Dataset(
            name="+".join(sources)[:MAX_KEY] or "dataset",
            digest=dataset["digest"][:DIGEST_DIGITS],
            source_type="assay",
            source=canonical.dumps({"ledger": f"manifests/{dataset['digest']}.json"}).decode(),
            profile=canonical.dumps({"num_rows": dataset["records"]}).decode(),
        )
        facts = {
            "mlflow.data.context": dataset["context"],
            "assay.digest": dataset["digest"],
            "assay.content_digest": dataset["content_digest"],
            "assay.direction": dataset["direction"],
        }
        inputs.append(DatasetInput(entity, [InputTag(key, value) for key, value in facts.items()]))
    if inputs:
        client.log_inputs(run_id, inputs)


def _log_artifact(client: Any, run_id: str, path: Path, folder: str) -> None:
    if path.is_dir():
        client.log_artifacts(run_id, str(path), "/".join(part for part in (folder, path.name) if part))
    elif path.is_file():
        client.log_artifact(run_id, str(path), folder or None)
    else:
        client.set_tag(run_id, f"assay.artifact_gone.{_key(path.name)}", str(path)[:MAX_TAG])


def _elsewhere(client: Any, run_id: str, folder: str, name: str, value: str) -> str:
    """Keep a value that is too long as an artifact, whole, and give its digest in its place."""
    file = "/".join(part for part in (folder, "long", f"{_key(name).replace('/', '_')}.txt") if part)
    client.log_text(run_id, value, file)
    return f"sha256:{canonical.sha256(value.encode())} ({len(value)} characters, in {file})"


def _dataset_tags(datasets: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Whole digests by context; what a step makes under a context that it also reads gets the ending ``.made``."""
    read = {dataset["context"] for dataset in datasets if dataset["direction"] == "read"}
    tags: dict[str, str] = {}
    for dataset in datasets:
        ending = ".made" if dataset["direction"] == "made" and dataset["context"] in read else ""
        name = f"assay.dataset.{dataset['context']}{ending}"
        tags[name] = ",".join(part for part in (tags.get(name, ""), dataset["digest"]) if part)
    return tags


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return canonical.dumps(value).decode()
    except UnfitInput:
        return str(value)


def _key(name: str) -> str:
    """A name MLflow takes: letters, digits and ``_-.:/ ``, at most 250 of them."""
    return re.sub(r"[^A-Za-z0-9_\-.:/ ]", "_", name)[:MAX_KEY]
