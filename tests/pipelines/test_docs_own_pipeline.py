"""The page on other people's pipelines: its blocks compile as a reader would paste them, in as few lines as it says."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, dsl

from assay.components.authoring import component
from assay.runner.branches import check_branches

PAGE = Path(__file__).parents[2] / "docs" / "own-pipeline.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@component
def my_training(rows: int) -> str:
    return f"s3://models/{rows}"


@pytest.fixture
def names(tmp_path: Path) -> dict[str, Any]:
    """What the blocks define, run one after the other as a reader would paste them."""
    found: dict[str, Any] = {"my_training": my_training, "dsl": dsl}
    for number, block in enumerate(BLOCKS):
        file = tmp_path / f"block_{number}.py"
        file.write_text(block)
        exec(compile(block, str(file), "exec"), found)
    return found


def test_the_gate_is_fifteen_lines() -> None:
    body = [line for line in BLOCKS[0].partition("def guarded")[2].splitlines() if line.strip()]
    imports = [line for line in BLOCKS[0].partition("def guarded")[0].splitlines() if line.startswith("from assay")]
    assert len(body) + len(imports) == 15
    assert max(len(line) for line in PAGE.read_text().splitlines()) <= 121


def test_the_pipeline_of_the_page_compiles_with_both_branches(names: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "own.yaml"
    compiler.Compiler().compile(names["my_pipeline"], str(out))
    spec = next(yaml.safe_load_all(out.read_text()))
    check_branches(spec)
    tasks = set(spec["root"]["dag"]["tasks"])
    assert {"my-training", "import-model", "ingest", "evaluate", "gate"} <= tasks
    assert {name for name in spec["components"] if "promote" in name or "withhold" in name} == {
        "comp-promote",
        "comp-withhold",
    }
    assert "pip install" not in out.read_text()
