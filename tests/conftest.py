"""What all tests share: a workspace of their own, and the real data sets where they are."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from assay.workspace import Workspace

# Machines are shared and noisy: how long an example took says nothing about the code.
settings.register_profile("assay", deadline=None)
settings.load_profile("assay")

# A shell starts what runs in its background with Ctrl-C ignored, and children inherit that; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(os.environ.get("ASSAY_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
OWN = (
    "ASSAY_HOME",
    "ASSAY_LEDGER",
    "ASSAY_KEYS",
    "ASSAY_CUSTODIAN_KEY",
    "ASSAY_EVALUATOR_KEY",
    "ASSAY_PROMOTER_KEY",
    "ASSAY_APPROVER_KEY",
    "ASSAY_RUN_ID",
)


@pytest.fixture(autouse=True)
def _no_ambient_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the caller's settings or writes outside its own folder."""
    for name in (*OWN, "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / ".assay"))


@pytest.fixture
def workspace() -> Workspace:
    """An empty workspace under the test's folder."""
    return Workspace.from_env()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, or a skip that says so."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}; set ASSAY_SHARED_DATA")
    return SHARED


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small tensors: more threads of torch only wait for each other."""
    import torch  # most tests do without

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
