"""Every command in README.md and docs/ runs: in a folder as its reader would have it, on the tiny example.

Commands that need a cluster speak to a recording server. ``make`` and ``pytest`` lines are checked against the Makefile
and the tests they name, since they run this very suite.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`(pytest [^`]+)`")
MAY_SAY_NO = {"gate", "contain", "monitor", "audit", "doctor"}  # 1 is an answer of these; 2 and 3 are the page's faults


def commands(page: Path) -> list[str]:
    """The lines of a page's console blocks that begin with a dollar sign."""
    blocks = BLOCK.findall(page.read_text())
    return [line[2:].strip() for block in blocks for line in block.splitlines() if line.startswith("$ ")]


ALL = [(page.relative_to(ROOT).as_posix(), command) for page in PAGES for command in commands(page)]
OURS = [(page, command) for page, command in ALL if shlex.split(command)[0] == "assay"]


def test_pages_have_commands_and_only_kinds_that_are_checked() -> None:
    kinds = {shlex.split(command)[0] for _, command in ALL}
    assert "assay" in kinds
    assert kinds <= {"assay", "make", "pytest", "mlflow"}


@pytest.mark.parametrize(("page", "command"), [c for c in ALL if c[1].startswith("make ")])
def test_make_targets_exist(page: str, command: str) -> None:
    done = subprocess.run(
        ["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{page}: {done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("claim", sorted({claim for page in PAGES for claim in QUOTED.findall(page.read_text())}))
def test_quoted_pytest_lines_select_tests(claim: str) -> None:
    line = [sys.executable, "-m", *shlex.split(claim), "--collect-only", "-q", "-p", "no:cacheprovider", "-m", ""]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    ("page", "command"),
    [
        pytest.param(page, command, id=f"{page}: {command}", marks=[pytest.mark.slow] if page != "README.md" else [])
        for page, command in OURS
    ],
)
def test_documented_command_runs(page: str, command: str, reader: dict[str, str], reader_folder: Path) -> None:
    served = command.replace("http://models.example:8080/v2/models", reader["MODELS"])
    argv = [sys.executable, "-m", "assay.cli", *shlex.split(served)[1:]]
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith("ASSAY_")}, **reader}
    done = subprocess.run(
        argv, cwd=reader_folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    allowed = (0, 1) if shlex.split(command)[1] in MAY_SAY_NO else (0,)
    assert done.returncode in allowed, f"{page}: {command}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
