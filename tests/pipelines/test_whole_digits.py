"""The built-in example, whole: what it must find, and that a kill at any step changes nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from whole_runs import STEPS, finish, kill_in, start, state


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document and the state of an uninterrupted run of the whole example."""
    folder = tmp_path_factory.mktemp("digits")
    return finish(start(folder)), state(folder)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("step", range(len(STEPS)))
def test_the_digits_run_killed_at_every_step_ends_in_the_same_state(
    tmp_path: Path, digits: tuple[dict[str, Any], dict[str, Any]], step: int
) -> None:
    kill_in(start(tmp_path), step, random.Random(step).uniform(0, 3))
    assert finish(start(tmp_path))["evidence_id"] == digits[0]["evidence_id"]
    assert state(tmp_path) == digits[1]


def planted(folder: Path) -> set[str]:
    path = next((folder / ".assay" / "examples").glob("digits-*/planted.json"))
    return set(json.loads(path.read_text()))


def quarantined(folder: Path) -> set[str]:
    from assay.data.dataset import Dataset

    found = (folder / ".assay" / "runs").glob("*/artifacts/**/filter-poison/quarantine")
    return {name for path in found for name in Dataset.load(path).record_ids}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_digits_catches_the_poisoned_source_and_promotes_a_model_without_the_backdoor(tmp_path: Path) -> None:
    document = finish(start(tmp_path))
    bad, caught = planted(tmp_path), quarantined(tmp_path)
    everything = sum(document["kept"].values()) + sum(n for r in document["quarantined"].values() for n in r.values())
    clean = everything - len(bad)
    false_alarms = sum(n for r in document["quarantined"].values() for n in r.values()) - len(caught & bad)
    assert len(bad) >= 40
    assert len(caught & bad) >= 0.9 * len(bad)
    assert false_alarms <= 0.03 * clean
    assert document["estimates"]["backdoor_success_unfiltered"]["value"] > 0.8
    assert document["estimates"]["backdoor_success"]["value"] < 0.1
    assert document["decision"] == "promote"
    for rule in document["rules"]:
        if "bar" in rule and rule["rule"] == "at_least":
            assert rule["estimate"]["value"] >= rule["bar"] + 0.08, "a floor too near for another machine"
