"""evaluate as the pipeline calls it: the component's own body, on stand-in artifacts."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from evaluate_cases import dataset, linear_model
from kfp import dsl

from assay import canonical
from assay.components.evaluate.component import evaluate
from assay.errors import UnknownName
from assay.workspace import Workspace

CONFIG = {"threats": ["linf:0.05"], "attacks": {"fgsm": {}}}
KINDS = {"model": dsl.Model, "holdout": dsl.Dataset, "metrics": dsl.Metrics, "page": dsl.HTML}


def run(folder: Path, config: dict[str, Any], target: str) -> dict[str, Any]:
    names = ("model", "holdout", "evidence", "outcomes", "metrics", "page")
    made = {name: KINDS.get(name, dsl.Artifact)(name=name, uri=str(folder / name)) for name in names}
    x = np.random.default_rng(0).uniform(0.1, 0.9, (40, 3)).astype(np.float32)
    weight = np.array([[0.0, 0.0, 0.0], [1.0, -2.0, 3.0]])
    dataset(x, (x @ weight[1] > 1).astype(np.int64)).save(folder / "holdout")
    linear_model(folder / "model", weight, np.array([0.0, -1.0]), x[:4])
    evaluate.python_func(config=canonical.dumps(config).decode(), target=target, run="r1", **made)
    return made


def test_the_body_writes_every_output_and_what_the_page_shows(tmp_path: Path, workspace: Workspace) -> None:
    workspace.initialise()
    made = run(tmp_path, CONFIG, json.dumps({"model": "m", "alias": "champion"}))
    evidence_id = made["evidence"].metadata["evidence_id"]
    assert workspace.ledger.names("evidence/") == [f"evidence/{evidence_id}.dsse.json"]
    assert workspace.ledger.get(f"evidence/{evidence_id}.dsse.json") == Path(made["evidence"].path).read_bytes()
    assert pq.read_table(made["outcomes"].path).num_rows == 40
    assert made["metrics"].metadata["clean_accuracy"] == 1.0
    assert all(math.isfinite(value) for value in made["metrics"].metadata.values())
    assert Path(made["page"].path).read_text().startswith("<!DOCTYPE html>")


def test_an_unknown_key_of_the_configuration_stops_the_step(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="threats"):
        run(tmp_path, CONFIG | {"threat": ["linf:0.1"]}, "")
    assert not (tmp_path / "evidence").exists()


def test_every_input_and_output_is_described() -> None:
    described = inspect.getdoc(evaluate.python_func) or ""
    for name in inspect.signature(evaluate.python_func).parameters:
        assert f"\n    {name}: " in described
