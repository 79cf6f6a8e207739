"""A whole run in a process of its own, and the state it leaves, for tests that compare such states."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from assay import canonical
from assay.evidence import payload_id
from assay.ledger import FileLedger
from assay.signing import peek

TEMPORARY = ".assay-tmp-"
STEPS = ("ingest", "sanitize", "filter-poison", "train", "evaluate", "gate", "report", "promote")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """``assay run`` in a folder, in a process group of its own; JSON on standard output, one line a step on error."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAY_", "MLFLOW_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "assay.cli", "run", *arguments, "--json"],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def verb(folder: Path, code: int, *arguments: str) -> str:
    """What a verb prints in a folder; it has to leave with the code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAY_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-m", "assay.cli", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def kill_in(process: subprocess.Popen[str], step: int, delay: float) -> None:
    """Kill the whole process group with SIGKILL, ``delay`` seconds after so many steps have ended."""
    assert process.stderr is not None
    ended = 0
    while ended < step and (line := process.stderr.readline()):
        ended += line.startswith("ok")
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON document of a run that ends by itself with 0."""
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, f"exit {process.returncode}\n{out}\n{err}"
    document: dict[str, Any] = json.loads(out)
    return document


def fresh(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def tiny_run(factory: pytest.TempPathFactory, worker: str) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The folder of one whole tiny run that all workers share, its document, and the state it left.

    Whoever comes first runs it. The document and the state are those of then, whatever others do in the folder since.
    """
    root = factory.getbasetemp() if worker == "master" else factory.getbasetemp().parent
    folder, said = root / "tiny-run", root / "tiny-run.json"
    with (root / "tiny-run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            document = finish(start(fresh(folder), "--example", "tiny", "--set", "promote.model=digits"))
            said.write_text(json.dumps([document, state(folder)]))
    document, left = json.loads(said.read_text())
    return folder, document, left


def state(folder: Path) -> dict[str, Any]:
    """Everything that must not depend on an interruption: ledger, registry, tracking, temporary files."""
    home = folder / ".assay"
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    models = client.search_registered_models()
    runs = client.search_runs([found.experiment_id for found in client.search_experiments()])
    return {
        "ledger": _ledger(FileLedger(home / "ledger")),
        "versions": {model.name: len(client.search_model_versions(f"name='{model.name}'")) for model in models},
        "aliases": {model.name: dict(model.aliases) for model in models},
        "runs": sorted([run.data.tags.get("assay.step", ""), run.info.status] for run in runs),
        "temporary": sorted(str(path) for path in home.rglob("*") if TEMPORARY in path.name),
        "outbox": sorted(path.name for path in (home / "outbox").glob("*.json")),
    }


def _ledger(ledger: FileLedger) -> dict[str, str]:
    """What every name is bound to, signatures and times aside; the run's own id, which a path goes into, is ``RUN``."""
    runs = {name.split("/")[1] for name in ledger.names("runs/")}
    found = {}
    for name in ledger.names():
        data = ledger.get(name)
        if name.endswith(".dsse.json"):
            found[name] = payload_id(peek(data))
            continue
        for run in runs:
            data = data.replace(run.encode(), b"RUN")
        folder = name.rpartition("-")[0] if name.startswith("runs/") else name
        found["/".join("RUN" if part in runs else part for part in folder.split("/"))] = canonical.sha256(data)
    return found
