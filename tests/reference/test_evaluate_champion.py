"""The step beside a champion: measured on the same records, and refused where it is not the promoted one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from evaluate_cases import linear_model
from table_cases import CONFIG, OTHER, TARGET, WEIGHT, Case, left

from assay.errors import Refused, UnfitInput
from assay.estimate import paired_difference
from assay.workspace import Workspace


@pytest.fixture
def case(workspace: Workspace, tmp_path: Path) -> Case:
    return Case(workspace, tmp_path)


@pytest.mark.slow
def test_with_a_champion_to_compare_every_record_is_measured(case: Case) -> None:
    other = case.folder / "other"
    case.save(other, OTHER)
    case.promoted(other)
    config = CONFIG.model_copy(update={"decide": {"clean_accuracy": 0.02}})
    document = case.evaluate(config=config, target=TARGET)
    assert document["records"] == {"measured": 300, "of": 300}
    assert document["estimates"]["clean_accuracy_minus_champion"]["n"] == 300


def test_the_champion_is_measured_on_the_same_records(case: Case) -> None:
    champion = case.folder / "champion"
    case.save(champion, OTHER)
    digest = case.promoted(champion)
    case.evaluate(target=TARGET)
    made = case.read()
    ours, theirs = left(case.x, case.y, WEIGHT), left(case.x, case.y, OTHER)
    assert made.subjects["champion"] == digest
    for name, first, second in (
        ("clean_accuracy_minus_champion", ours[0], theirs[0]),
        ("robust_accuracy_minus_champion/linf:0.05", ours[1], theirs[1]),
    ):
        assert made.estimates[name] == paired_difference(
            int((first & ~second).sum()), int((~first & second).sum()), 300
        )
    table = pq.read_table(case.folder / "e.parquet")
    assert np.array_equal(table["champion_clean_correct"], theirs[0])
    assert np.array_equal(table["champion_robust/linf:0.05"], theirs[1])


def test_without_a_champion_nothing_is_said_about_one(case: Case) -> None:
    for target in (None, TARGET):
        document = case.evaluate(target=target)
        assert not any("champion" in name for name in document["estimates"])
        assert "champion" not in case.read().subjects


def test_a_model_is_not_its_own_champion(case: Case) -> None:
    before = case.evaluate("before", target=TARGET)
    case.promoted(case.model)
    assert case.evaluate("after", target=TARGET)["evidence_id"] == before["evidence_id"]


@pytest.mark.parametrize(
    "changes",
    [{"role": "evaluator"}, {"body": {"target": {"model": "other", "alias": "champion"}}}, {"body": {"sequence": 2}}],
    ids=str,
)
def test_a_promotion_that_does_not_verify_is_refused(case: Case, changes: dict[str, Any]) -> None:
    case.save(case.folder / "champion", OTHER)
    case.promoted(case.folder / "champion", **changes)
    with pytest.raises(Refused):
        case.evaluate(target=TARGET)
    assert not (case.folder / "e.dsse.json").exists()


def test_champion_files_that_are_not_the_promoted_ones_are_refused(case: Case) -> None:
    case.save(case.folder / "champion", OTHER)
    digest = case.promoted(case.folder / "champion")
    weights = case.workspace.home / "ledger" / "models" / digest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(Refused, match="champion"):
        case.evaluate(target=TARGET)
    weights.parent.rename(weights.parent.with_name("gone"))
    with pytest.raises(Refused, match="no files"):
        case.evaluate(target=TARGET)


def test_a_champion_of_other_classes_cannot_be_compared(case: Case) -> None:
    weight = np.stack([0 * OTHER, OTHER, -OTHER])
    linear_model(case.folder / "champion", weight, np.zeros(3), case.x[:8])
    case.promoted(case.folder / "champion")
    with pytest.raises(UnfitInput, match="champion"):
        case.evaluate(target=TARGET)
