"""Slices of a model of quantities: each is the estimate of its records alone, and the gate looks at the worst."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from regression_cases import EPSILON, LARGEST, THREAT, config, dataset, errors, plane, read, records

from assay.bernstein import mean_error
from assay.config.base import parse
from assay.config.gate import PolicyConfig
from assay.evaluate.step import evaluate
from assay.evidence import Evidence
from assay.gate.rules.worst_slice import WorstSlice
from assay.gate.verdict import Case

PLANE = ([3.0, -2.0, 0.5], 0.0)
GOOD, BAD = "clinic", "vendor"


@pytest.fixture
def made(tmp_path, workspace) -> Evidence:
    """What the vendor delivers is off by 2 more; a third of the records are his."""
    workspace.initialise()
    x, y = records()
    y[2::3] += 2.0
    dataset(x, y, (f"{GOOD}/a", f"{GOOD}/b", f"{BAD}/a")).save(tmp_path / "holdout")
    places = {"evidence": tmp_path / "e.dsse.json", "outcomes": tmp_path / "e.parquet"}
    evaluate(plane(tmp_path / "model", *PLANE), tmp_path / "holdout", config(slices=["source"]), **places)
    return read(tmp_path / "e.dsse.json", workspace)


def test_every_source_has_the_estimates_of_its_own_records_and_the_worst_decides(made):
    x, y = records()
    y[2::3] += 2.0
    late = np.arange(len(y)) % 3 == 2
    for name, of in ((GOOD, ~late), (BAD, late)):
        for estimate, radius in ((f"mae[source={name}]", 0.0), (f"worst_case_error[source={name}]/{THREAT}", EPSILON)):
            found, exact = made.estimates[estimate], mean_error(errors(x[of], y[of], *PLANE, radius), LARGEST)
            assert (found.low, found.value, found.high) == pytest.approx((exact.low, exact.value, exact.high), abs=1e-3)
            assert found.n == of.sum()
    policy = parse(PolicyConfig, {"rules": [{"rule": "sound"}]}, "policy")
    case = Case(evidence=made, policy=policy, now=datetime.now(UTC), signed=True)
    whole, worst = made.estimates["mae"], made.estimates[f"mae[source={BAD}]"]
    bar = (whole.high + worst.low) / 2
    assert whole.high < bar < worst.low, "the average hides it"
    told = WorstSlice(estimate="mae", by="source", value=bar)(case)
    assert (told.verdict, told.need) == ("misses", f"<= {bar:g}")
    assert f"source={BAD}" in told.text
    for value, verdict in ((3.5, "holds"), (2.2, "unclear")):
        assert WorstSlice(estimate="mae", by="source", value=value)(case).verdict == verdict
        assert WorstSlice(estimate="worst_case_error", threat=THREAT, by="source", value=value)(case).verdict == verdict
    hidden = Case(
        evidence=Evidence(
            subjects=made.subjects,
            estimates={name: it for name, it in made.estimates.items() if f"source={BAD}" not in name},
            measured=made.measured,
        ),
        policy=policy,
        now=datetime.now(UTC),
        signed=True,
    )
    assert WorstSlice(estimate="mae", by="source", value=5.0)(hidden).verdict == "not_measured"
