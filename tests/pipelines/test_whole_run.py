"""The whole path through the real command: what it finds, and that interrupting it anywhere changes nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from whole_runs import finish, fresh, start, state

STEPS = ("ingest", "sanitize", "filter-poison", "train", "evaluate", "gate", "report", "promote")
KILLS = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole") / "here"


@pytest.fixture(scope="module")
def tiny(place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document and the state of an uninterrupted tiny run."""
    document = finish(start(fresh(place), "--example", "tiny"))
    return document, state(place)


def kill_in(process: subprocess.Popen[str], step: int, delay: float) -> None:
    """Kill the whole process group with SIGKILL, ``delay`` seconds after so many steps have ended."""
    assert process.stderr is not None
    ended = 0
    while ended < step and (line := process.stderr.readline()):
        ended += line.startswith("ok")
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


@pytest.mark.xdist_group("whole")
class TestTinyRun:
    def test_promotes_and_says_all_that_scripts_rely_on(self, tiny: tuple[dict[str, Any], dict[str, Any]]) -> None:
        document, left = tiny
        assert document["decision"] == "promote"
        assert document["model"]["name"] == "tiny"
        assert (str(document["model"]["version"]), document["model"]["alias"]) == ("1", "champion")
        assert document["quarantined"] == {"vendor-c": {"not_finite": 3}}
        assert sum(document["kept"].values()) + 3 == 60
        assert {"clean_accuracy", "robust_accuracy"} <= set(document["estimates"])
        assert all({"value", "low", "high", "n", "confidence"} <= set(e) for e in document["estimates"].values())
        assert all({"rule", "verdict"} <= set(rule) for rule in document["rules"])
        assert Path(document["report"]).is_file()
        assert left["versions"] == {"tiny": 1}
        assert [name for name, _ in left["runs"]] == sorted(["", *(step.replace("-", "_") for step in STEPS)])
        assert {status for _, status in left["runs"]} == {"FINISHED"}
        assert (left["temporary"], left["outbox"]) == ([], [])

    def test_run_again_is_one_attempt_and_one_promotion(
        self, place: Path, tiny: tuple[dict[str, Any], dict[str, Any]]
    ) -> None:
        document = finish(start(place, "--example", "tiny"))
        assert document["evidence_id"] == tiny[0]["evidence_id"]
        assert state(place) == tiny[1]

    @pytest.mark.parametrize("draw", range(KILLS))
    def test_killed_and_run_again_ends_in_the_same_state(
        self, place: Path, tiny: tuple[dict[str, Any], dict[str, Any]], draw: int
    ) -> None:
        """Three kill points, drawn by seed: after how many steps, and how long into the next."""
        generator = random.Random(f"kill {draw}")
        step = generator.randrange(draw * len(STEPS) // KILLS, (draw + 1) * len(STEPS) // KILLS)
        killed = start(fresh(place), "--example", "tiny")
        kill_in(killed, step, generator.uniform(0, 4))
        document = finish(start(place, "--example", "tiny"))
        assert document["evidence_id"] == tiny[0]["evidence_id"]
        assert state(place) == tiny[1]

    def test_a_second_run_at_the_same_time_is_refused(self, place: Path) -> None:
        from assay.local_run import exclusive

        folder = place / ".assay" / "runs"
        run = next(path for path in folder.iterdir() if path.is_dir())
        kept = sorted(path.name for path in run.iterdir())
        code = (
            f"from pathlib import Path; from assay.local_run import exclusive\nwith exclusive(Path({str(run)!r})): pass"
        )
        with exclusive(folder / "other"), (folder / f"{run.name}.lock").open("w") as lock:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "one at a time" in done.stderr
        assert sorted(path.name for path in run.iterdir()) == kept


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


@pytest.mark.xdist_group("digits")
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
