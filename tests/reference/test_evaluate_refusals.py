"""Every input and setting that the step cannot measure is refused, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from evaluate_cases import dataset
from table_cases import CONFIG, Case

from assay.config.black_box import BlackBoxConfig
from assay.errors import UnfitInput, UnknownName
from assay.evaluate.fast import supports_bfloat16
from assay.workspace import Workspace


@pytest.fixture
def case(workspace: Workspace, tmp_path: Path) -> Case:
    return Case(workspace, tmp_path)


def test_settings_of_a_black_box_are_refused_for_a_model_folder(case: Case) -> None:
    with pytest.raises(UnfitInput, match=r"black_box.*none for a model folder"):
        case.evaluate(config=CONFIG.model_copy(update={"black_box": BlackBoxConfig()}))
    assert not (case.folder / "e.dsse.json").exists()


def test_a_bar_for_an_estimate_that_is_not_made_is_refused(case: Case) -> None:
    with pytest.raises(UnknownName, match="robust_accuracy"):
        case.evaluate(config=CONFIG.model_copy(update={"decide": {"robust_accuracy/linf:0.5": 0.02}}))
    assert not (case.folder / "e.dsse.json").exists()


@pytest.mark.skipif(supports_bfloat16(), reason="this CPU multiplies in bfloat16")
def test_bfloat16_is_refused_where_the_cpu_has_none(case: Case) -> None:
    with pytest.raises(UnfitInput, match="bfloat16"):
        case.evaluate(config=CONFIG.model_copy(update={"precision": "bfloat16", "device": "cpu"}))


def flip_a_byte(case: Case) -> None:
    path = case.model / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def change_a_record(case: Case) -> None:
    part = next((case.holdout / "data").iterdir())
    table = pq.read_table(part)
    pq.write_table(table.set_column(2, "f0", table["f1"]), part)


def replace_holdout(case: Case, made: Any) -> None:
    for path in sorted(case.holdout.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    case.holdout.rmdir()
    made.save(case.holdout)


def with_nan(x: Any) -> Any:
    return np.where(x > 0.89, np.float32("nan"), x)


BREAKS: dict[str, Callable[[Case], None]] = {
    "a flipped byte in the model": flip_a_byte,
    "a changed record": change_a_record,
    "no records": lambda case: replace_holdout(case, dataset(case.x[:0], case.y[:0])),
    "other classes": lambda case: replace_holdout(case, dataset(case.x, case.y, classes=3)),
    "other columns": lambda case: replace_holdout(case, dataset(case.x[:, :7], case.y)),
    "values outside the box": lambda case: replace_holdout(case, dataset(2 * case.x, case.y)),
    "a value that is no number": lambda case: replace_holdout(case, dataset(with_nan(case.x), case.y)),
}


@pytest.mark.parametrize("name", list(BREAKS))
def test_input_that_does_not_fit_is_refused_and_nothing_is_written(case: Case, name: str) -> None:
    BREAKS[name](case)
    before = sorted(case.folder.iterdir())
    with pytest.raises(UnfitInput):
        case.evaluate(page=case.folder / "page.html")
    assert sorted(path for path in case.folder.iterdir() if path.name != ".assay") == [
        path for path in before if path.name != ".assay"
    ]
    assert case.workspace.ledger.names("evidence/") == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threats": ("linf:0",)}, "above 0"),
        ({"threats": ("linf:1.01",)}, "width of the box"),
        ({"threats": ("l2:2.83",)}, "at most the box"),
        ({"threats": ("linf:0.05", "linf:1/20")}, "each threat once"),
        ({"threats": ("linf",)}, "norm:epsilon"),
        ({"threats": ("l7:0.1",)}, "l1"),
        ({"attacks": {"pdg": {}}}, "pgd"),
        ({"attacks": {"carlini_wagner": {}}}, "carlini_wagner: got threat linf:0.05, need l2"),
        ({"threats": ("l0:2",)}, "need linf or l2 or l1. Measure this .* with jsma, sparse_pgd, sparse_rs, transfer"),
        ({"attacks": {"pgd": {"step": 3}}}, "steps"),
        ({"triggers": ({"name": "p", "kind": "patch", "row": 0, "column": 0, "target": 1},)}, "need images"),
    ],
    ids=str,
)
def test_a_measurement_that_makes_no_sense_is_refused(case: Case, change: dict[str, Any], says: str) -> None:
    with pytest.raises(UnfitInput, match=says):
        case.evaluate(config=CONFIG.model_copy(update=change))
    assert not (case.folder / "e.dsse.json").exists()


def test_an_unknown_setting_names_the_nearest_one(case: Case) -> None:
    with pytest.raises(UnknownName, match="steps"):
        case.evaluate(config=CONFIG.model_copy(update={"attacks": {"pgd": {"stepz": 3}}}))
