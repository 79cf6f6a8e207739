"""A model of quantities beside its champion: differences by the closed form, and what a gate makes of them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from regression_cases import EPSILON, LARGEST, TARGET, THREAT, config, dataset, errors, plane, promoted, read, records

from assay.config.base import parse
from assay.config.gate import PolicyConfig
from assay.errors import UnfitInput
from assay.evaluate.step import evaluate
from assay.evidence import Evidence
from assay.gate.rules.no_worse_than import NoWorseThan
from assay.gate.verdict import Case
from assay.workspace import Workspace

NEW, OLD = ([3.1, -2.0, 0.4], 0.0), ([2.0, -1.0, 0.6], 0.1)


def by_formula(difference: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Maurer and Pontil, theorem 4, of differences in [-LARGEST, LARGEST]; in floating point."""
    n, log = len(difference), math.log(4 / (1 - confidence))
    away = math.sqrt(2 * difference.var(ddof=1) * log / n) + 7 * 2 * LARGEST * log / (3 * (n - 1))
    return difference.mean() - away, difference.mean() + away


def measured(folder: Path, workspace: Workspace, new: tuple = NEW, old: tuple = OLD) -> tuple[Evidence, str]:
    workspace.initialise()
    dataset(*records()).save(folder / "holdout")
    champion = promoted(workspace, plane(folder / "old", *old))
    places = {"evidence": folder / "e.dsse.json", "outcomes": folder / "e.parquet", "page": folder / "e.html"}
    evaluate(plane(folder / "new", *new), folder / "holdout", config(), target=TARGET, **places)
    return read(folder / "e.dsse.json", workspace), champion


def test_differences_to_the_champion_are_those_of_the_closed_form(tmp_path, workspace):
    made, champion = measured(tmp_path, workspace)
    assert made.subjects["champion"] == champion
    x, y = records()
    for name, radius in (
        ("mae_minus_champion", 0.0),
        (f"worst_case_error_minus_champion/{THREAT}", EPSILON),
        (f"error_under_attack_minus_champion/{THREAT}", EPSILON),
        (f"certified_error_minus_champion/{THREAT}", EPSILON),
    ):
        difference = errors(x, y, *NEW, radius) - errors(x, y, *OLD, radius)
        found, (low, high) = made.estimates[name], by_formula(difference)
        assert found.value == pytest.approx(difference.mean(), abs=1e-4)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-3)
        assert found.n == len(y)
    apart = [made.estimates["mae"], made.estimates["mae_minus_champion"]]
    assert apart[1].high - apart[1].low < 1.9 * (apart[0].high - apart[0].low), "of two intervals side by side"
    rows = pq.read_table(tmp_path / "e.parquet")
    assert rows["champion_error"].to_numpy() == pytest.approx(errors(x, y, *OLD), abs=1e-5)
    worst = errors(x, y, *OLD, EPSILON)
    assert (rows[f"champion_error_found/{THREAT}"].to_numpy() <= worst + 1e-4).all()
    assert (rows[f"champion_error_bound/{THREAT}"].to_numpy() >= worst - 1e-6).all()
    page = (tmp_path / "e.html").read_text()
    assert "mae_minus_champion" in page
    assert f"champion, {THREAT}" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("new", "old", "margin", "verdict"),
    [
        (NEW, OLD, 0.5, "holds"),
        (([0.0, 0.0, 0.0], 3.0), NEW, 0.0, "misses"),
        (NEW, NEW, 1.0, "holds"),
        (NEW, ([3.1, -2.0, 0.4], 0.01), 0.0, "unclear"),
    ],
)
def test_the_gate_holds_errors_to_the_champion_from_above(tmp_path, workspace, new, old, margin, verdict):
    made, champion = measured(tmp_path, workspace, new, (old[0], old[1] + 1e-6))
    policy = parse(PolicyConfig, {"rules": [{"rule": "sound"}]}, "policy")
    case = Case(evidence=made, policy=policy, now=datetime.now(UTC), signed=True, champion=champion)
    for estimate, threat in (("mae", ""), ("worst_case_error", THREAT)):
        rule = NoWorseThan(estimate=estimate, threat=threat, margin=margin, without_champion="not_measured")
        assert rule(case).verdict == verdict


def test_a_champion_of_classes_cannot_be_compared(tmp_path, workspace):
    from model_cases import folder, spec

    workspace.initialise()
    dataset(*records(20)).save(tmp_path / "holdout")
    promoted(workspace, folder(tmp_path / "old", spec("linear", (3,), classes=2)))
    with pytest.raises(UnfitInput, match="champion: classes"):
        evaluate(
            plane(tmp_path / "new", *NEW),
            tmp_path / "holdout",
            config(),
            target=TARGET,
            evidence=tmp_path / "e.dsse.json",
            outcomes=tmp_path / "e.parquet",
        )
    assert not (tmp_path / "e.dsse.json").exists()
