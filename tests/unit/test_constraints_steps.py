"""One declaration on its whole way: assay.yaml, quarantine, evidence, policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from evaluate_cases import dataset, linear_model
from scipy.optimize import linprog

from assay.cli import main
from assay.config.base import parse
from assay.config.constraints import ConstraintsConfig
from assay.config.evaluate import EvaluateConfig
from assay.config.gate import PolicyConfig
from assay.config.root import Config
from assay.data.dataset import Dataset
from assay.errors import UnfitInput, UnknownName
from assay.evaluate.step import evaluate
from assay.evidence import Evidence
from assay.gate.verdict import estimate_name
from assay.signing import unseal
from assay.workspace import Workspace

DECLARED: dict[str, Any] = {
    "immutable": ["f0"],
    "integer": ["f1"],
    "one_hot": [["f2", "f3"]],
    "budgets": {"f4": 0.02},
    "relations": [{"sum": {"f4": 1, "f5": -1}, "at_most": 0}],
}
WHOLE = {
    "sources": [{"name": "clinic", "uri": "data.csv"}],
    "policy": {"rules": [{"rule": "sound"}]},
    "constraints": DECLARED,
}


def table(n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    x = draw.uniform(0.2, 0.8, (n, 6))
    x[:, 1] = draw.integers(0, 2, n)
    x[:, 2] = draw.integers(0, 2, n)
    x[:, 3] = 1 - x[:, 2]
    x[:, 5] = x[:, 4] + draw.uniform(0, 0.2, n)
    x = x.astype(np.float32)
    x[:, 5] = np.maximum(x[:, 4], x[:, 5])
    return x, ((x @ WEIGHT - BIAS + 0.15 * draw.standard_normal(n)) > 0).astype(np.int64)


WEIGHT = np.array([1.0, 0.7, 0.5, -0.5, 2.0, -1.0])
BIAS = 1.1


@pytest.fixture
def folder(workspace: Workspace, tmp_path: Path) -> Path:
    workspace.initialise()
    x, y = table()
    dataset(x, y).save(tmp_path / "holdout")
    linear_model(tmp_path / "model", np.stack([0 * WEIGHT, WEIGHT]), np.array([0, -BIAS]), x[:8])
    (tmp_path / "assay.yaml").write_text(yaml.safe_dump(WHOLE))
    return tmp_path


def config(**changes: Any) -> EvaluateConfig:
    document = {"threats": ["linf:0.1"], "attacks": {"pgd": {"steps": 10}, "coordinate": {"queries": 30}}} | changes
    return parse(EvaluateConfig, document, "evaluate")


def test_one_section_reaches_both_steps_and_reads_back_the_same(folder):
    loaded = Config.load(folder / "assay.yaml")
    assert loaded.sanitize.constraints == loaded.evaluate.constraints == parse(ConstraintsConfig, DECLARED, "it")
    (folder / "again.yaml").write_text(yaml.safe_dump(loaded.to_json()))
    assert Config.load(folder / "again.yaml") == loaded


@pytest.mark.slow
def test_sanitize_quarantines_what_breaks_the_declaration_with_the_reason(folder, capsys):
    x, y = table()
    x[3, 1], x[5, 2], x[7, 4] = 0.5, 1 - x[5, 2], x[7, 5] + 0.01
    dataset(x, y, "dirty").save(folder / "dirty")
    places = ["--out", str(folder / "kept"), "--quarantine", str(folder / "away")]
    assert main.run(["sanitize", str(folder / "dirty"), *places, "--config", str(folder / "assay.yaml"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["reasons"] == {"breaks(f4 - f5 <= 0)": 1, "not_integer(f1)": 1, "not_one_hot(f2/f3)": 1}
    assert sorted(Dataset.load(folder / "away").record_ids) == [f"source/dirty:{row}" for row in (3, 5, 7)]
    assert document["kept"] == len(y) - 3


def test_evidence_under_constraints_has_a_name_of_its_own_and_the_exact_answer(folder, workspace):
    """Reference: only f4 (by 0.02) and f5 (by 0.1) can move, f4 <= f5: a linear program for each record."""
    x, y = table()
    document = evaluate(
        folder / "model", folder / "holdout", config(constraints=DECLARED), evidence=folder / "e.dsse.json",
        outcomes=folder / "e.parquet",
    )  # fmt: skip
    opened = unseal((folder / "e.dsse.json").read_bytes(), workspace.keyring, kind="evidence", role="evaluator")
    evidence = Evidence.from_statement(opened.statement)
    key = f"linf:0.1:tabular-{parse(ConstraintsConfig, DECLARED, 'it').digest[:12]}"
    name = f"robust_accuracy/{key}"
    assert name in evidence.estimates
    assert evidence.measured["threats"][key]["constraints"]["columns"] == [f"f{at}" for at in range(6)]
    assert estimate_name("robust_accuracy", key) == name
    assert "robust_accuracy/linf:0.1" not in evidence.estimates
    assert evidence.soundness["attacks_stay_inside"] == "holds"
    assert document["sound"], document["soundness"]
    wide = x.astype(np.float64)
    margin = np.where(y == 1, 1, -1) * (wide @ WEIGHT - BIAS)
    ends = [(x[:, 4] - 0.02, x[:, 4] + 0.02), (x[:, 5] - 0.1, np.minimum(1, x[:, 5] + 0.1))]
    loss = np.array(
        [
            side * WEIGHT[4:] @ row[4:]
            - linprog(
                side * WEIGHT[4:], A_ub=[[1, -1]], b_ub=[0], bounds=[(low[at], high[at]) for low, high in ends]
            ).fun
            for at, (row, side) in enumerate(zip(wide, np.where(y == 1, 1, -1), strict=True))
        ]
    )
    robust = (margin > 0) & (margin - loss > 0)
    near = np.abs(margin - loss) < 1e-4
    assert abs(evidence.estimates[name].value - robust.mean()) <= near.mean() + 1e-9
    assert robust.mean() < (margin > 0).mean()


def test_a_policy_names_the_declaration_and_no_other_evidence_answers():
    asked = "linf:0.1:tabular-0123456789ab"
    policy = parse(
        PolicyConfig,
        {"rules": [{"rule": "at_least", "estimate": "robust_accuracy", "threat": asked, "value": 0.5}]},
        "policy",
    )
    assert policy.rules
    assert estimate_name("robust_accuracy", asked) == f"robust_accuracy/{asked}"
    assert estimate_name("robust_accuracy", "linf:1/10:[-1,1]:untargeted:black-box:queries-50") == (
        "robust_accuracy/linf:0.1:[-1,1]:untargeted:black-box:queries-50"
    )
    with pytest.raises(UnfitInput):
        estimate_name("robust_accuracy", "linf:0.1:tabular-x")


def test_records_that_break_the_declaration_and_unknown_columns_are_refused(folder):
    places = {"evidence": folder / "e.dsse.json", "outcomes": folder / "e.parquet"}
    with pytest.raises(UnknownName, match="Did you mean 'f0'"):
        evaluate(folder / "model", folder / "holdout", config(constraints={"immutable": ["f00"]}), **places)
    wrong = {"relations": [{"sum": {"f4": 1, "f5": -1}, "at_most": -0.05}]}
    with pytest.raises(UnfitInput, match=r"records with breaks\(f4 - f5 <= -0.05\), the first source/held"):
        evaluate(folder / "model", folder / "holdout", config(constraints=wrong), **places)
    assert not (folder / "e.dsse.json").exists()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "at least one constraint"),
        ({"immutable": ["a"], "only_up": ["a"]}, "'a' twice"),
        ({"one_hot": [["a"]]}, "at least 2"),
        ({"one_hot": [["a", "b"]], "integer": ["b"]}, "'b' twice"),
        ({"budgets": {"a": 0}}, "greater than 0"),
        ({"budgets": {"a": float("nan")}}, "finite"),
        ({"budgets": {"a": 1}, "immutable": ["a"]}, "'a' twice"),
        ({"relations": [{"sum": {"a": 1}}]}, "at_least, at_most"),
        ({"relations": [{"sum": {"a": 0}, "at_most": 1}]}, "other than 0"),
        ({"relations": [{"sum": {"a": 1}, "at_least": 2, "at_most": 1}]}, "the least first"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(document, message):
    with pytest.raises(UnfitInput, match=message):
        parse(ConstraintsConfig, document, "constraints")
