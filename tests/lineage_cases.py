"""What the tests of lineage, trace and monitor share: small datasets, recorded steps, what MLflow shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from assay import lineage
from assay.data.dataset import Dataset
from assay.data.manifest import BatchShare, History
from assay.workspace import Workspace


def dataset(
    batches: dict[str, int], *, step: str = "ingest", role: str = "kept", flip: int | None = None, **history: Any
) -> Dataset:
    """Records of batches by name and number, with one feature and alternating labels; ``flip`` turns one label."""
    names = [name for name, count in batches.items() for _ in range(count)]
    rows = [row for count in batches.values() for row in range(count)]
    labels = np.arange(len(rows)) % 2
    if flip is not None:
        labels[flip] = 1 - labels[flip]
    table = pa.table({"batch": names, "row": rows, "value": np.arange(len(rows), dtype=np.float64), "label": labels})
    shares = tuple(BatchShare(*name.split("/"), "0" * 64, 0) for name in batches)
    return Dataset.make(table, ("no", "yes"), History(step, role, shares, **history))


def record_step(name: str, run: str, made: Dataset | None = None, **more: Any) -> None:
    """One step that makes a dataset and notes a parameter and a metric."""
    with lineage.step(name, run) as record:
        if made is not None:
            record.makes(made, "training")
        record.params |= {"epochs": 3} | more.pop("params", {})
        record.metrics |= {"accuracy": 0.5} | more.pop("metrics", {})


def client(workspace: Workspace) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=workspace.tracking_uri, registry_uri=workspace.tracking_uri)


def runs(workspace: Workspace, deleted: bool = False) -> list[Any]:
    """Every run of the tracking store that is not deleted."""
    from mlflow.entities import ViewType

    asked = client(workspace)
    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    here = [experiment.experiment_id for experiment in asked.search_experiments()]
    return list(asked.search_runs(here, run_view_type=view))


def by_step(found: Sequence[Any]) -> dict[str, Any]:
    """Runs by the name of their step; the parent under an empty name. Two of one name are an error."""
    named = [run.data.tags.get("assay.step", "") for run in found]
    assert len(set(named)) == len(named), f"doubles among {named}"
    return dict(zip(named, found, strict=True))


def outbox(workspace: Workspace) -> list[Path]:
    return sorted((workspace.home / "outbox").glob("*.json"))
