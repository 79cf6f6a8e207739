"""The component and the verb write the same page, through one library call."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from kfp import dsl
from report_run import make_run

from assay.cli.main import run as assay
from assay.components.report.component import report
from assay.workspace import Workspace


def test_component_and_verb_write_the_same_page(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_run(tmp_path / "run", workspace)
    places = {name: place for name, place in made.inputs.places.items() if name != "promotion"}
    artifacts = {name: dsl.Artifact(uri=str(place)) for name, place in places.items()}
    report.python_func(**artifacts, run="run-1", page=dsl.HTML(uri=str(tmp_path / "task.html")))
    options = [text for name, place in places.items() for text in (f"--{name.replace('_', '-')}", str(place))]
    assert assay(["report", *options, "--run", "run-1", "--out", str(tmp_path / "verb.html"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["decision"] == "promote"
    assert document["verified"] is True
    assert document["decision_id"] == made.decision_id
    assert (tmp_path / "verb.html").read_bytes() == (tmp_path / "task.html").read_bytes()


def test_the_verb_finds_a_runs_folder_and_takes_further_estimates(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_run(tmp_path / "run", workspace)
    estimates = {name: value.to_json() for name, value in made.inputs.extra.items()}
    (tmp_path / "extra.json").write_text(json.dumps(estimates))
    given = ["--run-folder", str(tmp_path / "run"), "--estimates", str(tmp_path / "extra.json")]
    assert assay(["report", *given, "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out.splitlines() == ["promote (verified)", str(tmp_path / "page.html")]
    assert "backdoor_success_unfiltered" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "--run-folder"),
        (["--decision", "/nowhere"], "/nowhere"),
        (["--run-folder", "/nowhere"], "/nowhere"),
        (["--decison", "x"], "--decision"),
    ],
)
def test_bad_usage_leaves_with_2_and_writes_nothing(
    given: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert assay(["report", *given, "--out", str(tmp_path / "page.html")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_the_example_of_the_report_page_of_the_docs_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "report.md").read_text("utf-8")
    names: dict[str, object] = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.S)[0], names)
    assert str(names["text"]).count("clean_accuracy") >= 2
