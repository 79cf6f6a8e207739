"""The loop over shards, run by the engine itself: parts are collected, and the evidence is that of one machine."""

import json
from pathlib import Path

import numpy as np
import pytest
from evaluate_cases import dataset, linear_model
from kfp import dsl, local
from mlflow import MlflowClient

from assay import canonical
from assay.components.evaluate.component import evaluate
from assay.pipelines import decision
from assay.workspace import Workspace

CONFIG = canonical.dumps({"threats": ["linf:0.05"], "attacks": {"fgsm": {}}}).decode()
TARGET = json.dumps({"model": "m", "alias": "champion"})


@pytest.mark.slow
def test_the_shards_of_a_run_make_the_evidence_of_one_task(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four shards of three blocks, one of them with none; evaluated once more in one task, it is the same evidence."""
    workspace.initialise()
    x = np.random.default_rng(0).uniform(0.1, 0.9, (600, 3)).astype(np.float32)
    weight = np.array([[0.0, 0.0, 0.0], [1.0, -2.0, 3.0]])
    dataset(x, (x @ weight[1] > 1).astype(np.int64)).save(tmp_path / "holdout")
    linear_model(tmp_path / "model", weight, np.array([0.0, -1.0]), x[:4])
    for name, value in workspace.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    @dsl.pipeline
    def shared_out(config: str, target: str):
        model = dsl.importer(artifact_uri=str(tmp_path / "model"), artifact_class=dsl.Model)
        holdout = dsl.importer(artifact_uri=str(tmp_path / "holdout"), artifact_class=dsl.Dataset)
        given = {"model": model.output, "holdout": holdout.output, "config": config, "run": "r1"}
        decision._shared_out(lambda task, _: task, given, target, 4)
        evaluate(**given, target=target)

    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(tmp_path / "artifacts"),
        workspace_root=str(tmp_path / "workspace"),
    )
    shared_out(config=CONFIG, target=TARGET)
    assert len(list((tmp_path / "artifacts").rglob("part"))) == 4
    (merged,) = (tmp_path / "artifacts").rglob("merge-evidence/evidence")
    (whole,) = (tmp_path / "artifacts").rglob("evaluate/evidence")
    assert merged.read_bytes() == whole.read_bytes(), "one measurement, bound in the ledger once"
    assert len(workspace.ledger.names("evidence/")) == len(workspace.ledger.names("attempts/")) == 1
    assert not list((workspace.home / "outbox").glob("*.json")), "MLflow took every record"
    store = MlflowClient(workspace.tracking_uri)
    runs = store.search_runs([each.experiment_id for each in store.search_experiments()])
    told = sorted((run.data.tags.get("assay.step", ""), run.info.status) for run in runs)
    assert told == [("", "FINISHED"), ("evaluate", "FINISHED"), ("evaluate_shard", "FINISHED")]
    steps = sorted(name.rsplit("/", 1)[-1].rsplit("-", 1)[0] for name in workspace.ledger.names("runs/r1/"))
    assert steps == ["evaluate", "evaluate", *["evaluate_shard"] * 4]
