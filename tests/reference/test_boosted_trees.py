"""Boosted trees against XGBoost's own answers (``boosted_trees/make.py`` recorded them), and files that are none."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate_cases import dataset

from assay.blackbox.boosted_trees import read_boosted_trees
from assay.cli import main
from assay.errors import Refused, UnfitInput

HERE = Path(__file__).parent / "boosted_trees"
ANSWERS = json.loads((HERE / "answers.json").read_text())
NAMES = ["binary", "raw", "multi", "forest"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("asked", "answered"), [("asked", "{}"), ("{} edges", "{} at edges")])
def test_gives_the_margins_that_xgboost_gives(name, asked, answered):
    """Missing values, values beyond all training records, and values on the very edge of a cut included."""
    x = np.array(
        [[np.nan if cell is None else cell for cell in row] for row in ANSWERS[asked.format(name)]], np.float32
    )
    need = np.array(ANSWERS[answered.format(name)])
    said = read_boosted_trees(HERE / f"{name}.json")(x)
    np.testing.assert_allclose(said[:, 1] - said[:, 0] if need.ndim == 1 else said, need, rtol=1e-5, atol=1e-6)
    assert said.shape == (len(x), 2 if need.ndim == 1 else 3)


def test_xgboost_itself_agrees_where_it_is_installed():
    xgboost = pytest.importorskip("xgboost")
    x = np.random.default_rng(4).uniform(-1, 2, (3000, 4)).astype(np.float32)
    for name in NAMES:
        booster = xgboost.Booster(model_file=HERE / f"{name}.json")
        need = booster.predict(xgboost.DMatrix(x), output_margin=True)
        said = read_boosted_trees(HERE / f"{name}.json")(x)
        np.testing.assert_allclose(said[:, 1] - said[:, 0] if need.ndim == 1 else said, need, rtol=1e-5, atol=1e-6)


def changed(tmp_path: Path, how: Any, name: str = "binary") -> Path:
    document = json.loads((HERE / f"{name}.json").read_text())
    how(document["learner"])
    path = tmp_path / "m.json"
    path.write_text(json.dumps(document))
    return path


def trees(learner: dict[str, Any]) -> Any:
    return learner["gradient_booster"]["model"]["trees"]


@pytest.mark.parametrize(
    ("how", "match"),
    [
        (lambda it: it["gradient_booster"].update(name="dart"), "dart"),
        (lambda it: it["gradient_booster"].update(name="gblinear"), "gblinear"),
        (lambda it: it["objective"].update(name="reg:squarederror"), "reg:squarederror"),
        (lambda it: it["objective"].update(name="rank:ndcg"), "rank:ndcg"),
        (lambda it: it["learner_model_param"].update(num_target="2"), "targets"),
        (lambda it: it["attributes"].update(best_iteration="2"), "best_iteration"),
        (lambda it: trees(it)[0].update(split_type=[1] * len(trees(it)[0]["left_children"])), "categorical"),
        (lambda it: trees(it)[0]["tree_param"].update(size_leaf_vector="3"), "several values"),
    ],
)
def test_boosters_of_another_kind_are_refused_by_name(tmp_path, how, match):
    with pytest.raises(Refused, match=match):
        read_boosted_trees(changed(tmp_path, how))


@pytest.mark.parametrize(
    "how",
    [
        lambda it: trees(it)[0]["left_children"].__setitem__(0, 0),
        lambda it: trees(it)[0]["left_children"].__setitem__(0, trees(it)[0]["right_children"][0]),
        lambda it: trees(it)[0]["right_children"].__setitem__(0, 99),
        lambda it: trees(it)[0]["right_children"].__setitem__(0, -7),
        lambda it: trees(it)[0]["split_indices"].__setitem__(0, 4),
        lambda it: trees(it)[0]["split_indices"].__setitem__(0, -1),
        lambda it: trees(it)[0]["split_conditions"].pop(),
        lambda it: trees(it)[0]["split_conditions"].__setitem__(0, 1e39),
        lambda it: trees(it)[0]["split_conditions"].__setitem__(0, "x"),
        lambda it: it["gradient_booster"]["model"].update(tree_info=[0]),
        lambda it: it["gradient_booster"]["model"].update(tree_info=[1] * 4),
        lambda it: it["gradient_booster"]["model"].update(trees=[]),
        lambda it: it["learner_model_param"].update(base_score="0"),
        lambda it: it["learner_model_param"].update(base_score="[[["),
        lambda it: it["learner_model_param"].update(num_class="-1"),
        lambda it: it.pop("gradient_booster"),
        lambda it: it.update(objective=[]),
        lambda it: trees(it).__setitem__(0, None),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_files_that_are_damaged_or_hostile_are_refused(tmp_path, how):
    """A cycle, a node reached twice, a child or column that is none: nothing is followed for ever."""
    with pytest.raises((UnfitInput, Refused)):
        read_boosted_trees(changed(tmp_path, how))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"learner": 1}', '{"learner": {}, "learner": {}}', "[" * 5000, "NaN"])
def test_what_is_no_such_document_is_refused(tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises((UnfitInput, Refused)):
        read_boosted_trees(tmp_path / "m.json")


def test_the_binary_form_is_told_what_to_do(tmp_path):
    (tmp_path / "m.ubj").write_bytes(b"{L")
    with pytest.raises(Refused, match="save_model"):
        read_boosted_trees(tmp_path / "m.ubj")


def test_deep_and_shallow_copies_of_the_file_have_its_digest():
    first = read_boosted_trees(HERE / "multi.json")
    assert copy.deepcopy(first).digest == first.digest
    assert first.describe()["trees"] == 12


def test_the_command_measures_a_file_of_trees_by_asking(workspace, tmp_path, capsys):
    workspace.initialise()
    x = np.random.default_rng(2).uniform(0, 1, (60, 4)).astype(np.float32)
    said = read_boosted_trees(HERE / "multi.json")(x).argmax(1)
    dataset(x, said, classes=3).save(tmp_path / "holdout")
    words = ["evaluate", str(HERE / "multi.json"), "--data", str(tmp_path / "holdout"), "--threat", "linf:0.1"]
    words += ["--queries", "200", "--attack", "square:queries=120", "--out", str(tmp_path / "e.dsse.json"), "--json"]
    assert main.run(words) == 0
    document = json.loads(capsys.readouterr().out)
    robust = document["estimates"]["robust_accuracy/linf:0.1:untargeted:black-box:queries-200"]
    assert document["estimates"]["clean_accuracy"]["value"] == 1
    assert robust["value"] < 0.9, "records near a cut fall"
    held = json.loads((tmp_path / "e.dsse.json").read_text())
    assert held
