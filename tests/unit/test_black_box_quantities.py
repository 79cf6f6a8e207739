"""Models of quantities that can only be asked: the closed form within a counted budget, under a name of its own."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from model_cases import history
from open_inference_server import serving
from regression_cases import read

from assay.blackbox.predict import Asked
from assay.cli import main
from assay.config.base import parse
from assay.config.evaluate import EvaluateConfig
from assay.data.dataset import Dataset
from assay.errors import UnfitInput
from assay.evaluate.black_box import evaluate_black_box
from assay.workspace import Workspace

WEIGHT = np.random.default_rng(7).standard_normal(8).round(3)
BIAS, EPSILON, LARGEST, QUERIES = 0.4, 0.05, 6.0, 900
BOX = {"queries": QUERIES, "attacks": {"square": {"queries": 880}}}
THREAT = f"linf:{EPSILON}:untargeted:black-box:queries-{QUERIES}"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(WEIGHT.tolist(), BIAS) as address:
        yield address


def asked_of(server: str) -> int:
    with urllib.request.urlopen(f"{server}/asked", timeout=10) as answer:
        return int(json.load(answer)["rows"])


def records(count: int = 34) -> tuple[Any, Any]:
    draw = np.random.default_rng(1)
    x = draw.uniform(0.1, 0.9, (count, 8)).astype(np.float32)
    return x, x @ WEIGHT - BIAS + 0.3 * draw.standard_normal(count)


@pytest.fixture
def folder(workspace: Workspace, tmp_path: Path) -> Path:
    workspace.initialise()
    x, y = records()
    keys = {"batch": pa.array(["clinic/a"] * len(y), pa.string()), "row": pa.array(np.arange(len(y)), pa.int64())}
    columns = {f"c{at}": pa.array(x[:, at]) for at in range(8)}
    Dataset.make(pa.table({**keys, **columns, "label": pa.array(y)}), [], history()).save(tmp_path / "holdout")
    return tmp_path


def run(folder: Path, source: str, **changes: Any) -> dict[str, Any]:
    given = {"threats": [f"linf:{EPSILON}"], "black_box": BOX, "regression": {"largest_error": LARGEST}} | changes
    places = {"evidence": folder / "e.dsse.json", "outcomes": folder / "e.parquet"}
    return evaluate_black_box(source, folder / "holdout", parse(EvaluateConfig, given, "evaluate"), **places)


@pytest.mark.slow
def test_an_endpoint_of_quantities_is_measured_to_its_exact_worst_error_within_its_budget(folder, server, workspace):
    """Reference: the closed form of a plane in a ball that the box does not cut; queries as the server counted them."""
    before = asked_of(server)
    document = run(folder, f"{server}/quantity")
    made, (x, y) = read(folder / "e.dsse.json", workspace), records()
    error = np.abs(x.astype(float) @ WEIGHT - BIAS - y)
    worst, reach = error + EPSILON * np.abs(WEIGHT).sum(), EPSILON * np.abs(WEIGHT).sum()
    rows = pq.read_table(folder / "e.parquet")
    assert rows["error"].to_numpy() == pytest.approx(error, abs=1e-5)
    found = rows[f"error_found/{THREAT}"].to_numpy()
    assert (found <= worst + 1e-5).all()
    assert (found >= worst - 0.01 * reach).all()
    assert document["sound"], document["soundness"]
    assert made.soundness["attack_self_test"] == made.soundness["error_grows_with_epsilon"] == "holds"
    assert made.soundness["certified_stand"] == made.soundness["zero_gradient_share"] == "not_measured"
    assert made.estimates[f"error_under_attack/{THREAT}"].value == pytest.approx(worst.mean(), rel=0.01)
    assert made.estimates[f"worst_case_error/{THREAT}"].high == pytest.approx(LARGEST, rel=1e-4), "nothing is proven"
    assert f"worst_case_error/linf:{EPSILON}" not in made.estimates
    assert made.measured["regression"]["largest_change"][THREAT] == pytest.approx(reach, rel=0.01)
    assert set(made.subjects) == {"endpoint", "holdout"}
    assert asked_of(server) - before == document["queries"]["asked"] == made.measured["queries"]["asked"]
    assert document["queries"]["per_record"] <= QUERIES
    assert document["queries"]["checks"] <= QUERIES * 32


@pytest.mark.slow
def test_the_same_measurement_twice_is_one_whatever_the_shape_of_the_answers(folder, server):
    first = run(folder, f"{server}/quantity")
    again = run(folder, f"{server}/flat")
    assert first["estimates"] == again["estimates"]
    assert first["evidence_id"] == run(folder, f"{server}/quantity")["evidence_id"]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"regression": None}, "--largest-error"),
        ({"black_box": BOX | {"answers": "labels"}}, r"black_box\.answers"),
        ({"black_box": BOX | {"attacks": {"pgd": {}}}}, "follows the gradient"),
        ({"black_box": BOX | {"attacks": {"hopskipjump": {}}}}, "an attack on a class"),
        ({"black_box": BOX | {"attacks": {"transfer": {}}}}, "an attack on a class"),
        ({"black_box": BOX | {"attacks": {"square": {"queries": 1}}}}, "at least one to either side"),
        ({"black_box": BOX | {"attacks": {"square": {"queries": 900}}}}, "at least the 909"),
        ({"threats": ["l0:2"]}, "black_box.attacks: square"),
        ({"slices": ["source"]}, r"evaluate\.slices"),
    ],
)
def test_what_does_not_apply_is_refused_before_anything_is_asked(folder, server, changes, match):
    before = asked_of(server)
    with pytest.raises(UnfitInput, match=match):
        run(folder, f"{server}/quantity", **changes)
    assert asked_of(server) == before
    assert not (folder / "e.dsse.json").exists()


def test_a_model_of_classes_behind_an_address_is_refused_for_quantities(folder, server):
    with pytest.raises(UnfitInput, match=r"answers of shape \(\d+, 2\), need \(\d+, 1\)"):
        run(folder, f"{server}/plain")


@pytest.mark.slow
def test_answers_that_are_no_numbers_are_not_sound_and_count_as_the_largest_error(folder, monkeypatch, workspace):
    monkeypatch.setattr("assay.evaluate.black_box.OpenInference", lambda **_: Broken())
    document = run(folder, "http://broken/v2/models/m")
    assert document["soundness"]["finite_outputs"] == "misses"
    assert not document["sound"]
    made = read(folder / "e.dsse.json", workspace)
    assert made.estimates["mae"].value == pytest.approx(LARGEST)
    assert made.measured["regression"]["largest_change"] == {THREAT: None}


class Broken:
    def describe(self) -> dict[str, Any]:
        return {"name": "broken"}

    def __call__(self, x: Any) -> Any:
        return np.full(len(x), np.nan)


def test_what_is_asked_counts_and_one_number_a_row_is_a_quantity():
    asked = Asked(lambda x: x.sum(1), 1, "scores", 10)
    import torch

    assert asked(torch.ones(4, 3)).tolist() == [[3.0]] * 4
    assert asked.queries == 4


@pytest.mark.slow
def test_the_command_measures_an_endpoint_of_quantities(folder, server, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    words = ["evaluate", f"{server}/quantity", "--data", "holdout", "--threat", f"linf:{EPSILON}", "--queries", "900"]
    attack = ["--attack", "square:queries=880"]
    assert main.run([*words, *attack, "--largest-error", "6", "--out", "e.dsse.json", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sound"]
    assert f"error_under_attack/{THREAT}" in said["estimates"]
    assert main.run([*words, *attack, "--out", "f.dsse.json"]) == 2
    assert "--largest-error" in capsys.readouterr().err
