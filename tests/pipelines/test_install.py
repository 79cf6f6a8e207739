"""A wheel and an editable install each give a console script that runs a pipeline, away from the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "src", "components", "pipelines")

pytestmark = [pytest.mark.slow]


def call(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAY_", "MLFLOW_"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, so that building leaves nothing in the repository."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


def environment(folder: Path) -> Path:
    """A virtual environment that has assay's dependencies but no assay; returns its Python.

    A plain line in a .pth file adds the packages of this environment, without the hook of its own editable install.
    """
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    place = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(place) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    missing = subprocess.run([python, "-c", "import assay"], cwd=folder, capture_output=True, check=False)
    assert missing.returncode != 0
    return python


def install(python: Path, *what: str | Path) -> None:
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    call(sys.executable, "-m", "pip", "--python", python, "install", *options, *what, cwd=python.parent)


def check(python: Path, folder: Path) -> None:
    folder.mkdir()
    assay = python.with_name("assay")
    where = call(python, "-c", "import assay.pipelines as p; print(p.__file__)", cwd=folder).strip()
    assert not where.startswith(str(ROOT))
    document = json.loads(call(assay, "compile", "retrain_on_drift", "--json", cwd=folder))
    assert document["pipeline"] == "retrain-on-drift"
    call(assay, "init", cwd=folder)
    assert (folder / "policy.yaml").is_file()
    assert json.loads(call(assay, "run", "--example", "tiny", "--json", cwd=folder))["decision"] == "promote"


def test_the_wheel(sources: Path, tmp_path: Path) -> None:
    call(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", sources, cwd=tmp_path
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    python = environment(tmp_path / "venv")
    install(python, wheel)
    check(python, tmp_path / "work")


def test_the_editable_install(sources: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    install(python, "--editable", sources)
    check(python, tmp_path / "work")
