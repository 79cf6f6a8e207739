"""Promotion under kill -9, races and an MLflow that is not there: one version, one alias, one order."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from promotion_cases import TARGET, Candidate, state, tree, with_store

from assay.audit import audit
from assay.errors import Unreachable
from assay.promote import promote, reconcile
from assay.promotions import history
from assay.workspace import Workspace

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(["mlflow", "mlflow.store.model_registry.sqlalchemy_store", "assay.promote"])
CLIENT_WRITES = (
    "create_registered_model",
    "create_model_version",
    "set_registered_model_alias",
    "delete_model_version",
)


def kill_before(nth: int) -> list[str]:
    """Replace every call that writes by one that counts, and kills this process instead of the nth write."""
    from mlflow import MlflowClient

    done: list[str] = []

    def counted(name: str, write: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            done.append(name)
            if len(done) == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*given, **named)

        return call

    os.link, os.replace = counted("link", os.link), counted("replace", os.replace)
    for name in CLIENT_WRITES:
        setattr(MlflowClient, name, counted(name, getattr(MlflowClient, name)))
    return done


def promote_in(home: str, folder: str, nth: int, answers: Any) -> None:
    """Promote what lies in a folder, killed before the nth write; 0 for never."""
    os.environ["ASSAY_HOME"] = home
    done = kill_before(nth)
    root = Path(folder)
    answer = promote(
        root / "decision.dsse.json",
        root / "evidence.dsse.json",
        root / "model",
        target=TARGET,
        promotion=root / "promotion.dsse.json",
    )
    answers.put((answer, done))


def state_of(home: str, answers: Any) -> None:
    os.environ["ASSAY_HOME"] = home
    workspace = Workspace.from_env()
    answers.put((state(workspace), audit(workspace)["mismatches"]))


def reconcile_in(home: str, answers: Any) -> None:
    os.environ["ASSAY_HOME"] = home
    answers.put(reconcile(Workspace.from_env()))


def ask(target: Any, *arguments: Any) -> tuple[int, Any]:
    """Run in another process; its exit code and what it answered, if it lived to."""
    answers = PROCESSES.SimpleQueue()
    process = PROCESSES.Process(target=target, args=(*arguments, answers))
    process.start()
    process.join(timeout=120)
    return int(process.exitcode if process.exitcode is not None else 1), None if answers.empty() else answers.get()


def prepared(folder: Path) -> tuple[Workspace, Candidate]:
    """A workspace of its own with a model that may be promoted."""
    home = folder / "home"
    base = Workspace.from_env()
    workspace = replace(
        base,
        home=home,
        ledger_uri=str(home / "ledger"),
        keyring_path=home / "keys" / "keys.json",
        signer_uris={"evaluator": str(home / "keys/evaluator.pem"), "promoter": str(home / "keys/promoter.pem")},
        tracking_uri=f"sqlite:///{home / 'mlflow.db'}",
    )
    with_store(workspace)
    candidate = Candidate(workspace, folder / "candidate")
    return workspace, candidate


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], int]:
    """A promotion that nothing disturbed: its folder, the end state, and how many writes it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    workspace, candidate = prepared(folder)
    os.environ["ASSAY_HOME"] = str(workspace.home)
    candidate.gate()
    code, answer = ask(promote_in, str(workspace.home), str(candidate.folder), 0)
    assert code == 0
    _, (reached, mismatches) = ask(state_of, str(workspace.home))
    assert mismatches == []
    return folder, reached, len(answer[1])


def versions(reached: dict[str, Any]) -> list[tuple[str, str]]:
    """Version and the evidence it stands for: what is equal whenever the keys are not."""
    return [(number, tags["assay.evidence"]) for number, tags in reached["versions"].items()]


def names(reached: dict[str, Any]) -> list[str]:
    return [name for name in reached["ledger"] if not name.startswith("decisions/")]


@pytest.mark.parametrize(
    "finish",
    ["in turn", pytest.param("again", marks=pytest.mark.slow), pytest.param("reconcile", marks=pytest.mark.slow)],
)
def test_a_kill_before_any_write_converges(
    finished: tuple[Path, dict[str, Any], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finish: str
) -> None:
    """kill -9 before each write in turn; then the same command, or `--reconcile`, reaches the undisturbed end state."""
    _, reached, writes = finished
    assert writes >= 8
    for nth in range(1, writes + 1):
        folder = tmp_path / str(nth)
        workspace, candidate = prepared(folder)
        monkeypatch.setenv("ASSAY_HOME", str(workspace.home))
        candidate.gate()
        code, answer = ask(promote_in, str(workspace.home), str(candidate.folder), nth)
        assert (code, answer) == (-signal.SIGKILL, None)
        reconciles = finish == "reconcile" or (finish == "in turn" and nth % 2)
        if reconciles and workspace.ledger.names("promotions/"):
            assert ask(reconcile_in, str(workspace.home))[0] == 0
        else:
            assert ask(promote_in, str(workspace.home), str(candidate.folder), 0)[0] == 0
        _, (after, mismatches) = ask(state_of, str(workspace.home))
        assert mismatches == []
        assert (names(after), versions(after), after["aliases"]) == (
            names(reached),
            versions(reached),
            reached["aliases"],
        )
        assert list(workspace.home.rglob(".assay-tmp-*")) == []


def race(home: str, folders: list[str], barrier: Any, answers: Any) -> None:
    os.environ["ASSAY_HOME"] = home
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
    barrier.wait(timeout=120)
    done = []
    for folder in folders:
        root = Path(folder)
        answer = promote(root / "decision.dsse.json", root / "evidence.dsse.json", root / "model", target=TARGET)
        done.append((answer["sequence"], answer["evidence"], answer["version"]))
    answers.put(done)


def run_all(running: list[Any], answers: Any) -> list[Any]:
    """What all the processes answered; one that failed fails the test."""
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=500)
    assert [process.exitcode for process in running] == [0] * len(running)
    return [answers.get() for _ in running]


def run_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each: int) -> None:
    """Four processes, each promoting its own evidence, all at once."""
    workspace, _ = prepared(tmp_path / "base")
    monkeypatch.setenv("ASSAY_HOME", str(workspace.home))
    lanes: list[list[str]] = []
    for process in range(4):
        lane = []
        for number in range(each):
            name = f"{process}-{number}"
            one = Candidate(workspace, tmp_path / name, name.encode())
            one.gate()
            lane.append(str(one.folder))
        lanes.append(lane)
    barrier, answers = PROCESSES.Barrier(4), PROCESSES.SimpleQueue()
    running = [PROCESSES.Process(target=race, args=(str(workspace.home), lane, barrier, answers)) for lane in lanes]
    told = run_all(running, answers)
    promotions = history(workspace.ledger, workspace.keyring, TARGET)
    assert [made.sequence for made in promotions] == list(range(1, 4 * each + 1))
    said = sorted((sequence, evidence) for lane in told for sequence, evidence, _ in lane)
    assert said == [(made.sequence, made.evidence) for made in promotions]
    assert len({version for lane in told for _, _, version in lane}) == 4 * each
    reached = state(workspace)
    assert len(reached["versions"]) == 4 * each
    head = reached["versions"][reached["aliases"]["champion"]]
    assert head["assay.promotion"] == promotions[-1].id
    assert audit(workspace)["mismatches"] == []


def test_four_processes_promoting_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_race(tmp_path, monkeypatch, each=3)


@pytest.mark.slow
def test_four_processes_promoting_fifty_models_each_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_race(tmp_path, monkeypatch, each=50)


def same(home: str, folder: str, barrier: Any, answers: Any) -> None:
    barrier.wait(timeout=120)
    os.environ["ASSAY_HOME"] = home
    root = Path(folder)
    answer = promote(root / "decision.dsse.json", root / "evidence.dsse.json", root / "model", target=TARGET)
    answers.put((answer["sequence"], answer["version"], answer["promotion"]))


def test_four_processes_promoting_the_same_measurement_make_one_promotion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, candidate = prepared(tmp_path)
    monkeypatch.setenv("ASSAY_HOME", str(workspace.home))
    candidate.gate()
    barrier, answers = PROCESSES.Barrier(4), PROCESSES.SimpleQueue()
    arguments = (str(workspace.home), str(candidate.folder), barrier, answers)
    running = [PROCESSES.Process(target=same, args=arguments) for _ in range(4)]
    assert len(set(run_all(running, answers))) == 1
    assert list(state(workspace)["versions"]) == ["1"]
    assert len(workspace.ledger.names("promotions/")) == 1


def test_an_mlflow_that_is_not_there_changes_nothing_within_a_bound(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = Candidate(workspace, tmp_path)
    candidate.gate()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    before, started = tree(workspace.home), time.monotonic()
    with pytest.raises(Unreachable) as caught:
        promote(candidate.decision_path, candidate.evidence_path, candidate.model, target=TARGET)
    assert caught.value.exit_code == 3
    assert time.monotonic() - started < 60
    assert tree(workspace.home) == before


def test_an_mlflow_that_goes_away_after_the_commit_is_made_up_for(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.registry import Registry

    candidate = Candidate(workspace, tmp_path)
    candidate.gate()
    with monkeypatch.context() as gone:

        def register(self: Registry, promotion: Any) -> str:
            raise Unreachable("MLflow", "silence", "an answer")

        gone.setattr(Registry, "register", register)
        with pytest.raises(Unreachable):
            candidate.promote()
    assert len(workspace.ledger.names("promotions/")) == 1
    assert state(workspace)["versions"] == {}
    assert reconcile(workspace) == {"finished": ["digits@champion/1"], "moved": []}
    assert candidate.promote()["version"] == "1"
    assert audit(workspace)["mismatches"] == []


def test_an_output_that_cannot_be_written_leaves_a_promotion_that_the_next_call_returns(
    workspace: Workspace, tmp_path: Path
) -> None:
    candidate = Candidate(workspace, tmp_path)
    candidate.gate()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        candidate.promote(promotion=tmp_path / "file" / "promotion.dsse.json")
    assert candidate.promote(promotion=tmp_path / "promotion.dsse.json")["sequence"] == 1
    assert (tmp_path / "promotion.dsse.json").is_file()
