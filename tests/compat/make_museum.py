"""Keep one of each file that this release writes: ``python tests/compat/make_museum.py tests/compat/<release>``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def main(museum: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAY_", "MLFLOW_"))}
        command = [sys.executable, "-m", "assay.cli", "run", "--example", "tiny"]
        subprocess.run(command, cwd=temporary, env=environment, check=True)
        home = Path(temporary) / ".assay"
        artifacts = next(home.glob("runs/*/artifacts/*"))
        museum.mkdir(parents=True)
        shutil.copytree(home / "ledger", museum / "ledger")
        shutil.copy(home / "keys" / "keys.json", museum / "keys.json")
        shutil.copy(next(home.glob("examples/*/assay.yaml")), museum / "assay.yaml")
        for name in (
            "sanitize/kept",
            "sanitize/quarantine",
            "train/model",
            "filter-poison/scores",
            "evaluate/outcomes",
        ):
            source, target = artifacts / name, museum / name.partition("/")[2]
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
