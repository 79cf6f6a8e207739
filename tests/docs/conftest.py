"""The folder of somebody who follows the pages: configuration, a finished run, a model and data beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import open_inference_server
import pytest
import skops.io
import torch
import yaml
from kfp_server import serving
from sklearn.linear_model import LogisticRegression
from torch import nn
from whole_runs import tiny_run

from assay.data.dataset import Dataset, features, labels
from assay.ingest.sign import sign_batch

POLICY = """\
accept_local_keys: {local}
rules:
  - {{rule: at_least, estimate: clean_accuracy, value: 0.7}}
  - {{rule: at_least, estimate: robust_accuracy, threat: "linf:0.1", value: 0.5}}
  - {{rule: no_worse_than, champion: true, estimate: clean_accuracy, margin: 0.02, without_champion: holds}}
  - {{rule: sound}}
"""


@pytest.fixture(scope="session")
def reader_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    folder, _, _ = tiny_run(tmp_path_factory, worker_id)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAY_", "MLFLOW_"))}
    home = folder / ".assay"
    artifacts = next(home.glob("runs/*/artifacts/*"))
    outputs = {"model": "train/model", "holdout": "ingest/holdout", "reference": "ingest/dataset"}
    for name, output in {**outputs, "calibration": "ingest/calibration"}.items():
        shutil.copytree(artifacts / output, folder / name)
    shutil.copytree(artifacts / "sanitize/kept", folder / "current")
    shutil.copytree(artifacts / "sanitize/quarantine", folder / "quarantine")
    (folder / "policy.yaml").write_text(POLICY.format(local="true"))
    made = subprocess.run(
        [sys.executable, "-m", "assay.cli", "approve", "--init", "--json"],
        cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    asked = f"  - {{rule: approved, count: 1, by: [{json.loads(made.stdout)['key']}]}}\n"
    (folder / "approval.yaml").write_text(POLICY.format(local="true") + asked)
    config: dict[str, Any] = yaml.safe_load(next(home.glob("examples/tiny-*/assay.yaml")).read_text())
    config["sources"] = [source | {"uri": f"s3://bucket/{source['uri']}"} for source in config["sources"]]
    (folder / "assay.yaml").write_text(
        yaml.safe_dump(config | {"policy": yaml.safe_load(POLICY.format(local="false"))})
    )
    deliver(folder)
    prices(folder)
    encoded(folder)
    foreign(folder, config)
    return folder


def prices(folder: Path) -> None:
    """Records whose label is a quantity."""
    rng, rules = np.random.default_rng(3), {}
    for source, name, trust, count in (("shop", "prices", "standard", 300), ("desk", "checked", "trusted", 1200)):
        x = rng.random((count, 4))
        y = 40 + x @ [30, -20, 5, 1] + rng.normal(0, 0.5, count)
        rows = (",".join(map(repr, [*row, label])) + "\n" for row, label in zip(x.tolist(), y.tolist(), strict=True))
        rules[source] = {"prefixes": [f"{name}.csv"], "require_signature": False, "trust": trust}
        (folder / f"{name}.csv").write_text("rooms,age,floor,garden,price\n" + "".join(rows))
    (folder / "prices.yaml").write_text(yaml.safe_dump({"schema": "assay.sources/v1", "sources": rules}))
    page = (Path(__file__).parents[2] / "docs" / "certify.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    (folder / "prices-policy.yaml").write_text(next(block for block in blocks if "worst_case_error" in block))


def encoded(folder: Path) -> None:
    """What an encoder made of many records, and of trusted ones."""
    rng = np.random.default_rng(0)
    for name, count in (("", 20_000), ("trusted-", 400)):
        y = rng.integers(0, 3, count)
        np.save(folder / f"{name}features.npy", (rng.normal(size=(count, 16)) + y[:, None]).astype(np.float32))
        np.save(folder / f"{name}labels.npy", y)


def foreign(folder: Path, config: dict[str, Any]) -> None:
    """The declaration of the page about tables, and models of other libraries."""
    shutil.copyfile(Path(__file__).parents[1] / "reference/boosted_trees/binary.json", folder / "trees.json")
    page = (Path(__file__).parents[2] / "docs" / "blackbox.md").read_text()
    declared = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)[0])
    declared["constraints"] = {name: value for name, value in declared["constraints"].items() if value}
    policy = yaml.safe_load(POLICY.format(local="true"))
    (folder / "table.yaml").write_text(yaml.safe_dump(config | declared | {"policy": policy}))
    holdout = Dataset.load(folder / "holdout")
    fitted = LogisticRegression().fit(features(holdout), labels(holdout))
    skops.io.dump(fitted, folder / "classifier.skops")
    torch.save(
        nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).state_dict(), folder / "weights.pt"
    )
    weights = np.concatenate([np.zeros_like(fitted.coef_), fitted.coef_]).astype(np.float32)
    parts = {"W": weights, "b": np.array([0, fitted.intercept_[0]], np.float32)}
    shape = [onnx.helper.make_tensor_value_info(name, 1, ["N", width]) for name, width in (("x", 4), ("y", 2))]
    node = onnx.helper.make_node("Gemm", ["x", "W", "b"], ["y"], transB=1)
    held = [onnx.numpy_helper.from_array(array, name) for name, array in parts.items()]
    graph = onnx.helper.make_graph([node], "g", shape[:1], shape[1:], held)
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
        folder / "classifier.onnx",
    )


def deliver(folder: Path) -> None:
    """What a supplier and the reader's own people delivered, and who may deliver it."""
    rng = np.random.default_rng(0)
    for source, batch, count in (("vendor-a", "2026-11", 200), ("own", "labelled", 800)):
        place = folder / "deliveries" / source / f"{batch}.csv"
        place.parent.mkdir(parents=True)
        rows = (f"{float(a)!r},{float(b) + k % 2!r},{k % 2}\n" for k, (a, b) in enumerate(rng.normal(size=(count, 2))))
        place.write_text("x,y,label\n" + "".join(rows))
    batch = folder / "deliveries/vendor-a/2026-11.csv"
    signed = sign_batch([batch], source="vendor-a", batch="2026-11", key=str(folder / "vendor-a.pem"), new_key=True)
    page = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
    rules, detectors = (yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S))
    rules["sources"]["vendor-a"]["keys"] = [signed["public"]]
    (folder / "sources.yaml").write_text(yaml.safe_dump(rules))
    (folder / "sanitize.yaml").write_text(yaml.safe_dump(detectors))


@pytest.fixture(scope="session")
def reader() -> Iterator[dict[str, str]]:
    """The reader's environment: a Kubeflow endpoint that records what it is asked."""
    with serving() as server, open_inference_server.serving([4.0, 4.0, 4.0, 4.0], 8.0) as models:
        yield {"MODELS": models, "KFP_ENDPOINT": server.address, "KF_PIPELINES_TOKEN": "token", "OMP_NUM_THREADS": "1"}
