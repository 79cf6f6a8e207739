"""An MLflow model is code: it runs only with consent, elsewhere, with nothing of ours around it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate_cases import dataset
from test_black_box import BIAS, WEIGHT, records

from assay.blackbox.pyfunc import opened
from assay.errors import AssayError, Refused, UnfitInput
from assay.workspace import Workspace

MODEL = """\
import os, socket, sys, time
import mlflow
import numpy as np

print("loaded", flush=True)
KIND = {kind!r}
if KIND == "dies":
    os._exit(7)

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        x = np.asarray(model_input, dtype=np.float64)
        if KIND == "spy":
            found = [name for name in os.environ if "SECRET" in name or "ASSAY" in name]
            try:
                socket.create_connection(("127.0.0.1", {port}), timeout=2).close()
                reached = 1.0
            except OSError:
                reached = 0.0
            home = float(os.path.samefile(os.path.expanduser("~"), os.getcwd()))
            return np.tile([float(len(found)), reached, home], (len(x), 1))
        if KIND == "sleeps":
            time.sleep(60)
        if KIND == "large":
            return np.zeros((len(x), 10**6))
        if KIND == "objects":
            return np.array([object()] * len(x))
        margin = x @ np.array({weight}) - {bias}
        print("a model that prints")
        return np.stack([0 * margin, margin], 1)

mlflow.models.set_model(Model())
"""


def isolates() -> bool:
    return subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0


needs_isolation = pytest.mark.skipif(not isolates(), reason="this machine gives no network namespace to its users")


def save(path: Path, kind: str, port: int = 9) -> Path:
    import mlflow

    script = path.with_suffix(".py")
    code = MODEL.format(kind=kind, port=port, weight=WEIGHT.tolist(), bias=BIAS)
    script.write_text(code)
    if kind == "dies":  # saving loads it once: only the copy dies
        save(path, "honest")
        (path / script.name).write_text(code)
        return path
    mlflow.pyfunc.save_model(str(path), python_model=str(script), pip_requirements=[])
    return path


def ask(path: Path, consent: Any, n: int = 2, timeout_s: float = 60.0) -> Any:
    with opened(path, consent, most_values=2, timeout_s=timeout_s) as model:
        return model(np.full((n, 8), 0.5, np.float32)), dict(model.enforced)


def test_without_consent_nothing_runs(tmp_path):
    (tmp_path / "MLmodel").write_text("flavors: {}")
    with pytest.raises(Refused, match="code that runs when it is loaded"):
        ask(tmp_path, "refuse")
    with pytest.raises(UnfitInput, match="no file MLmodel"):
        ask(tmp_path / "nothing", "isolated")


@pytest.mark.slow
@needs_isolation
def test_the_model_sees_no_credential_and_no_network(tmp_path, monkeypatch):
    """The model itself looks for both, and for a home; a listening socket of this process is what it cannot reach."""
    monkeypatch.setenv("MY_SECRET", "x")
    monkeypatch.setenv("ASSAY_ENDPOINT_TOKEN", "x")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=lambda: _accept(listening), daemon=True).start()
        path = save(tmp_path / "spy", "spy", listening.getsockname()[1])
        socket.create_connection(listening.getsockname(), timeout=5).close()  # it can be reached from here
        answer, enforced = ask(path, "isolated")
    assert enforced == {"no_network": True, "no_new_privileges": True, "no_environment": True}
    assert answer[0].tolist() == [0.0, 0.0, 1.0]


def _accept(listening: socket.socket) -> None:
    try:
        while True:
            listening.accept()[0].close()
    except OSError:
        return


@pytest.mark.slow
@needs_isolation
def test_models_that_misbehave_are_errors_in_time(tmp_path):
    for kind, error, message in (
        ("dies", AssayError, "a process that ended"),
        ("sleeps", AssayError, "no answer in time"),
        ("large", UnfitInput, "bytes, need at most"),
        ("objects", AssayError, "a process that ended"),
    ):
        path = save(tmp_path / kind, kind)
        with pytest.raises(error, match=message):
            ask(path, "isolated", timeout_s=5.0)


@pytest.mark.slow
@needs_isolation
def test_the_verb_measures_an_mlflow_model(workspace: Workspace, tmp_path):
    workspace.initialise()
    dataset(*records()).save(tmp_path / "holdout")
    save(tmp_path / "honest", "honest")
    command = [sys.executable, "-m", "assay.cli", "evaluate", "honest", "--data", "holdout", "--threat", "linf:0.05",
               "--queries", "300", "--attack", "square:queries=200", "--out", "v.dsse.json", "--json"]  # fmt: skip
    given = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300, "env": os.environ.copy()}
    refused = subprocess.run(command, check=False, **given)
    assert refused.returncode == 1, refused.stderr
    done = subprocess.run([*command, "--pyfunc", "isolated"], check=False, **given)
    assert done.returncode == 0, done.stderr
    x, y = records()
    document = json.loads(done.stdout)
    margin = np.where(y == 1, 1, -1) * (x.astype(float) @ WEIGHT - BIAS)
    assert document["estimates"]["clean_accuracy"]["value"] == pytest.approx((margin > 0).mean())
    assert document["sound"], document["soundness"]
    assert "loaded" in done.stderr
