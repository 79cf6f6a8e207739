"""The branches that the built-in example does not take, with the real steps on the tiny example."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from assay.config import Config
from assay.data.dataset import Dataset
from assay.examples.tiny import Tiny
from assay.kubeflow.pipelines import load
from assay.ledger import FileLedger
from assay.runner.arguments import from_config, select
from assay.runner.result import RunResult
from assay.runner.run import pipeline_spec, run_pipeline
from assay.workspace import LOCAL_ROLES, Workspace

Go = Callable[..., RunResult]
UNREACHABLE_BAR = {"rules": [{"rule": "at_least", "estimate": "clean_accuracy", "value": 0.99}]}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def go(home: Path) -> Go:
    """Run a pipeline over the tiny example in one workspace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_HOME", str(home / ".assay"))
        keys = [f"ASSAY_{role.upper()}_KEY" for role in LOCAL_ROLES]
        for name in ("ASSAY_LEDGER", "ASSAY_KEYS", *keys, "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        workspace = Workspace.from_env()
        workspace.initialise()
    path, _ = Tiny().write(home / "tiny")
    config = Config.load(path)

    def run(name: str, run_id: str, **given: Any) -> RunResult:
        pipeline = load(name, config.resources)
        arguments = {**select(from_config(config), pipeline_spec(pipeline)), **given}
        environment = {**workspace.environment(), "ASSAY_RUN_ID": run_id}
        return run_pipeline(pipeline, arguments, folder=home / run_id, environment=environment).require()

    return run


@pytest.fixture(scope="module")
def withheld(go: Go, home: Path) -> RunResult:
    """A training whose policy asks for more than 23 records can prove; nothing was promoted when it ended."""
    result = go("robust_training", "withheld", policy=json.dumps(UNREACHABLE_BAR))
    assert not FileLedger(home / ".assay" / "ledger").names("promotions/")
    return result


def shifted(dataset: Path, out: Path) -> Path:
    """The dataset with every feature moved up by a third of the box."""
    original = Dataset.load(dataset)
    table = original.table
    for name in original.feature_names:
        moved = np.clip(table[name].to_numpy() + 0.33, 0, 1).astype(table[name].type.to_pandas_dtype())
        table = table.set_column(table.column_names.index(name), name, pa.array(moved, table[name].type))
    manifest = original.manifest
    Dataset.make(table, manifest.content.classes, manifest.history).save(out)
    return out


def test_what_is_not_proven_is_withheld_and_reported(withheld: RunResult) -> None:
    spine = {"ingest", "sanitize", "filter-poison", "train", "evaluate", "gate", "report"}
    assert set(withheld.tasks) == spine | {"withhold"}
    assert withheld.parameter("gate") == "inconclusive"
    assert withheld.artifact("report", "page").stat().st_size > 1000


def test_a_model_from_elsewhere_is_promoted_on_evidence(go: Go, withheld: RunResult, home: Path) -> None:
    model = withheld.artifact("train", "model")
    result = go("evaluate_and_promote", "elsewhere", model=str(model))
    assert set(result.tasks) == {"import-model", "ingest", "evaluate", "gate", "promote"}
    assert result.parameter("gate") == "promote"
    assert FileLedger(home / ".assay" / "ledger").names("promotions/tiny@champion/")


def test_a_world_that_has_not_changed_is_left_alone(go: Go, withheld: RunResult) -> None:
    reference = str(withheld.artifact("filter-poison", "kept"))
    result = go("retrain_on_drift", "unchanged", reference=reference, current=reference)
    assert set(result.tasks) == {"monitor", "record-action"}
    assert result.parameter("record-action") == "watch", "57 records cannot tell a small change from none"


@pytest.mark.slow
def test_a_world_that_has_changed_is_trained_for(go: Go, withheld: RunResult, home: Path) -> None:
    reference = withheld.artifact("filter-poison", "kept")
    current = shifted(reference, home / "window")
    result = go("retrain_on_drift", "changed", reference=str(reference), current=str(current))
    assert result.parameter("monitor") == "retrain"
    assert set(result.tasks) == {
        "monitor", "ingest", "sanitize", "filter-poison", "train", "evaluate", "gate", "report", "promote"
    }  # fmt: skip
