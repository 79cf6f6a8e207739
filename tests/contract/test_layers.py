"""The boundaries between the parts, held by reading the imports and by loading the modules."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "src" / "assay"
STEPS = ("ingest", "sanitize", "filters", "train", "evaluate", "gate", "promote", "monitor", "trace", "contain")
MAY_USE_KFP = (
    "runner",
    "kubeflow",
    "cli/run.py",
    "cli/compile.py",
    "cli/submit.py",
    "cli/schedule.py",
    "cli/runs.py",
    "cli/doctor.py",
)
STEP_MODULES = ("ingest.step", "sanitize.step", "gate.step", "promote", "monitor", "trace", "contain")
OTHER_MODULES = ("verify", "serving", "audit", "report.page", "quarantine", "cli.main", "config")
TORCH_FREE = tuple(f"assay.{name}" for name in (*STEP_MODULES, *OTHER_MODULES))


def imports(file: Path) -> list[str]:
    """Every module a file imports, inside functions too."""
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def owner(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", sorted(LIBRARY.rglob("*.py")), ids=lambda file: str(file.relative_to(LIBRARY)))
def test_a_file_imports_only_what_its_layer_may(file: Path) -> None:
    place = file.relative_to(LIBRARY).as_posix()
    for name in imports(file):
        top, _, rest = name.partition(".")
        if top == "kfp":
            assert place.startswith(MAY_USE_KFP), f"{place} imports {name}"
        if top != "assay" or not rest:
            continue
        used = rest.split(".")[0]
        if used in ("components", "pipelines"):
            assert place.startswith(MAY_USE_KFP), f"{place} imports {name}"
        if owner(file) in STEPS and used in STEPS:
            assert used == owner(file) or {used, owner(file)} == {"trace", "contain"}, (
                f"step {place} imports step {name}"
            )


def test_the_steps_that_need_no_torch_do_not_load_it() -> None:
    """One process imports them one after the other, and names the first that does."""
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    code += "    if 'torch' in sys.modules: sys.exit(name)\n"
    done = subprocess.run(
        [sys.executable, "-c", code, *TORCH_FREE], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("top", ["src/assay", "components", "pipelines"])
def test_every_folder_is_a_package_that_an_installation_has(top: str) -> None:
    """An editable installation sees all folders; a wheel, and so the image, has those with an ``__init__.py``."""
    folders = {file.parent for file in (ROOT / top).rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_files_speak_in_modules_of_a_size_to_read() -> None:
    lines = sorted(len(file.read_text().splitlines()) for file in LIBRARY.rglob("*.py") if file.name != "__init__.py")
    assert lines[len(lines) // 2] <= 250


def test_what_lies_in_memory_is_read_by_no_thread_of_arrow() -> None:
    """See `assay.data.parquet.table_in`: one ``assay trace`` in eight ended with exit code 134 on a busy machine."""
    found = [
        f"{file.relative_to(LIBRARY)}:{node.lineno}"
        for file in LIBRARY.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("read_table", "dataset")
        for argument in node.args
        if re.search(r"BytesIO|BufferReader|open\(", ast.unparse(argument))
    ]
    assert found == []
