"""The folder of somebody who follows the pages: configuration, a finished run, a model and data beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp_server import serving

POLICY = """\
accept_local_keys: {local}
rules:
  - {{rule: at_least, estimate: clean_accuracy, value: 0.7}}
  - {{rule: at_least, estimate: robust_accuracy, threat: "linf:0.1", value: 0.5}}
  - {{rule: no_worse_than, champion: true, estimate: clean_accuracy, margin: 0.02, without_champion: holds}}
  - {{rule: sound}}
"""


@pytest.fixture(scope="session")
def reader_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAY_", "MLFLOW_"))}
    subprocess.run(
        [sys.executable, "-m", "assay.cli", "run", "--example", "tiny", "--set", "promote.model=digits"],
        cwd=folder, env=environment, check=True, capture_output=True, timeout=500,
    )  # fmt: skip
    home = folder / ".assay"
    artifacts = next(home.glob("runs/*/artifacts/*"))
    for name, output in {"model": "train/model", "holdout": "ingest/holdout", "reference": "ingest/dataset"}.items():
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
    return folder


@pytest.fixture(scope="session")
def reader() -> Iterator[dict[str, str]]:
    """The reader's environment: a Kubeflow endpoint that records what it is asked."""
    with serving() as server:
        yield {"KFP_ENDPOINT": server.address, "KF_PIPELINES_TOKEN": "token", "OMP_NUM_THREADS": "1"}
