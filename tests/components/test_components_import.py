"""What a task imports must import where kfp has no decorators, and what KFP compiles must be of its narrow form."""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import assay.components
from assay.components import STEPS

FOLDER = Path(assay.components.__path__[0])
FILES = sorted(FOLDER.glob("*/component.py"))


def body_imports(file: Path) -> list[str]:
    """The modules that the component's function imports when the task runs."""
    (function,) = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
    return [node.module for node in ast.walk(function) if isinstance(node, ast.ImportFrom) and node.module]


def test_every_step_has_its_component() -> None:
    assert {file.parent.name for file in FILES} == set(STEPS)
    assert {path.name for path in FOLDER.iterdir() if path.is_dir() and path.name[0] not in "._"} == set(STEPS)


IMPORT_EACH = """
import importlib, json, sys
failed = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = repr(error)
print(json.dumps(failed))
"""


def test_every_step_imports_inside_a_task() -> None:
    """The packages on the way, each component's own module, and all that its body asks for."""
    modules = [
        name for file in FILES for name in (f"assay.components.{file.parent.name}.component", *body_imports(file))
    ]
    environment = {**os.environ, "_KFP_RUNTIME": "true"}
    command = [sys.executable, "-c", IMPORT_EACH, *dict.fromkeys(modules)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(done.stdout) == {}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_a_component_is_of_the_form_that_kfp_takes(file: Path) -> None:
    tree = ast.parse(file.read_text())
    futures = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert not futures, "KFP reads annotations as objects"
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert function.name == file.parent.name
    assert any(name.startswith("assay.") for name in body_imports(file))
    assert (file.parent / "README.md").is_file()


@pytest.mark.parametrize("step", STEPS)
def test_a_component_documents_every_input_and_output(step: str) -> None:
    """The KFP page shows these words."""
    component = getattr(importlib.import_module(f"assay.components.{step}.component"), step)
    (file,) = [file for file in FILES if file.parent.name == step]
    (function,) = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
    words = ast.get_docstring(function) or ""
    assert component.description
    for argument in function.args.args:
        assert f"{argument.arg}: " in words, argument.arg


@pytest.mark.parametrize("step", STEPS)
def test_a_component_installs_nothing(step: str) -> None:
    component = getattr(importlib.import_module(f"assay.components.{step}.component"), step)
    (executor,) = component.pipeline_spec.deployment_spec["executors"].values()
    command = " ".join(executor["container"]["command"])
    assert "pip" not in command.partition("program_path")[0]
    assert "_KFP_RUNTIME=true" in command
    assert "python" in executor["container"]["image"]
