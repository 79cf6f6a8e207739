"""Benchmarks are not run with the tests; that they still fit the code, and are listed, is seen here."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
FILES = sorted(FOLDER.glob("bench_*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_name_a_benchmark_takes_from_assay_exists(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])
    asked = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom) and node.module]
    ours = [
        node for node in asked if str(node.module).partition(".")[0] == "assay" or str(node.module).endswith("_cases")
    ]
    lacking = [
        f"{node.module}.{name.name}"
        for node in ours
        for name in node.names
        if not hasattr(importlib.import_module(str(node.module)), name.name) and not _is_module(node, name.name)
    ]
    assert not lacking


def test_every_benchmark_has_a_row_and_every_row_a_benchmark() -> None:
    listed = (FOLDER / "README.md").read_text()
    assert [file.name for file in FILES if f"benchmarks/{file.name}" not in listed] == []
    assert {word for word in listed.replace("`", " ").split() if "/bench_" in word} <= {
        f"benchmarks/{f.name}" for f in FILES
    }


def _is_module(node: ast.ImportFrom, name: str) -> bool:
    try:
        importlib.import_module(f"{node.module}.{name}")
    except ModuleNotFoundError:
        return False
    return True
