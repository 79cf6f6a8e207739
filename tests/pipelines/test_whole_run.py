"""The whole path through the real command: what it finds, and that interrupting it anywhere changes nothing."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from whole_runs import STEPS, finish, fresh, kill_in, start, state, tiny_run, verb

KILLS = 3
TINY = ("--example", "tiny", "--set", "promote.model=digits")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole") / "here"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document and the state of an uninterrupted tiny run."""
    return tiny_run(tmp_path_factory, worker_id)[1:]


def kill_at(run: subprocess.Popen[str], draw: int) -> None:
    """Kill a run at a point that a seed draws from one of three parts of its way."""
    generator = random.Random(f"kill {draw}")
    step = generator.randrange(draw * len(STEPS) // KILLS, (draw + 1) * len(STEPS) // KILLS)
    kill_in(run, step, generator.uniform(0, 4))


def assert_same(document: dict[str, Any], place: Path, undisturbed: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert document["evidence_id"] == undisturbed[0]["evidence_id"]
    assert state(place) == undisturbed[1]


class TestTinyRun:
    def test_promotes_and_says_all_that_scripts_rely_on(self, tiny: tuple[dict[str, Any], dict[str, Any]]) -> None:
        document, left = tiny
        assert document["decision"] == "promote"
        assert document["model"]["name"] == "digits"
        assert (str(document["model"]["version"]), document["model"]["alias"]) == ("1", "champion")
        assert document["quarantined"] == {"vendor-c": {"not_finite": 3}}
        assert sum(document["kept"].values()) + 3 == 60
        assert {"clean_accuracy", "robust_accuracy"} <= set(document["estimates"])
        assert all({"value", "low", "high", "n", "confidence"} <= set(e) for e in document["estimates"].values())
        assert all({"rule", "verdict"} <= set(rule) for rule in document["rules"])
        assert Path(document["report"]).is_file()
        assert left["versions"] == {"digits": 1}
        assert [name for name, _ in left["runs"]] == sorted(["", *(step.replace("-", "_") for step in STEPS)])
        assert {status for _, status in left["runs"]} == {"FINISHED"}
        assert (left["temporary"], left["outbox"]) == ([], [])

    @pytest.mark.slow
    def test_run_again_is_one_attempt_and_one_promotion(
        self, place: Path, tiny: tuple[dict[str, Any], dict[str, Any]]
    ) -> None:
        fresh(place)
        for _ in range(2):
            assert_same(finish(start(place, *TINY)), place, tiny)

    @pytest.mark.slow
    @pytest.mark.parametrize("draws", [(1,), tuple(range(KILLS))])
    def test_killed_and_run_again_ends_in_the_same_state(
        self, place: Path, tiny: tuple[dict[str, Any], dict[str, Any]], draws: tuple[int, ...]
    ) -> None:
        """One run killed at points drawn by seed, each further on than the one before."""
        fresh(place)
        for draw in draws:
            kill_at(start(place, *TINY), draw)
        assert_same(finish(start(place, *TINY)), place, tiny)

    @pytest.mark.slow
    @pytest.mark.parametrize("draw", range(KILLS))
    def test_killed_once_and_run_again_ends_in_the_same_state(
        self, place: Path, tiny: tuple[dict[str, Any], dict[str, Any]], draw: int
    ) -> None:
        kill_at(start(fresh(place), *TINY), draw)
        assert_same(finish(start(place, *TINY)), place, tiny)

    def test_a_second_run_at_the_same_time_is_refused(
        self, tmp_path_factory: pytest.TempPathFactory, worker_id: str
    ) -> None:
        from assay.local_run import exclusive

        folder = tiny_run(tmp_path_factory, worker_id)[0] / ".assay" / "runs"
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

    @pytest.mark.slow
    def test_a_run_that_waits_for_approval_goes_on_from_there(self, place: Path) -> None:
        """It ends with 3 and nothing keeps running; approved and run again, the same measurement is promoted."""
        key = json.loads(verb(fresh(place), 0, "approve", "--init", "--json"))["key"]
        rules = f"[{{rule: at_least, estimate: clean_accuracy, value: 0.7}}, {{rule: approved, by: [{key}]}}]"
        given = ("run", *TINY, "--set", f"policy.rules={rules}", "--json")
        first = json.loads(verb(place, 3, *given))
        assert (first["decision"], first["model"]["version"]) == ("inconclusive", None)
        (decision,) = place.glob(".assay/runs/*/artifacts/*/gate/decision")
        verb(place, 0, "approve", str(decision), "--why", "looked at it")
        again = json.loads(verb(place, 0, *given))
        assert (again["decision"], str(again["model"]["version"])) == ("promote", "1")
        assert again["evidence_id"] == first["evidence_id"]
        assert len(list((place / ".assay" / "ledger" / "attempts").rglob("*.json"))) == 1
