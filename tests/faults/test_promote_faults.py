"""Promotion under kill -9, races and an MLflow that is not there: one version, one alias, one order."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from promotion_cases import TARGET, Candidate, state, tree, with_store

from assay.audit import audit
from assay.errors import Refused, UnfitInput, Unreachable
from assay.keyring import Keyring
from assay.models.spec import model_digest
from assay.promote import promote
from assay.promotions import history
from assay.reconcile import reconcile
from assay.rollback import rollback
from assay.serving import fetch
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "finish",
    ["in turn", "again", "reconcile"],
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_an_output_that_cannot_be_written_stops_before_anything_is_done(workspace: Workspace, tmp_path: Path) -> None:
    candidate = Candidate(workspace, tmp_path)
    candidate.gate()
    (tmp_path / "file").write_bytes(b"")
    before = tree(workspace.home / "ledger")
    with pytest.raises(UnfitInput, match="file"):
        candidate.promote(promotion=tmp_path / "file" / "promotion.dsse.json")
    assert tree(workspace.home / "ledger") == before
    assert candidate.promote(promotion=tmp_path / "promotion.dsse.json")["sequence"] == 1
    assert (tmp_path / "promotion.dsse.json").is_file()


@pytest.mark.slow
def test_a_locked_store_is_given_up_within_a_bound_and_nothing_was_done(workspace: Workspace, tmp_path: Path) -> None:
    candidate = Candidate(workspace, tmp_path)
    candidate.gate()
    with_store(workspace)
    before, started = tree(workspace.home / "ledger"), time.monotonic()
    with closing(sqlite3.connect(workspace.home / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unreachable, match="locked"):
            candidate.promote()
    assert time.monotonic() - started < 30
    assert tree(workspace.home / "ledger") == before
    assert candidate.promote()["sequence"] == 1


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_promoter_key_that_cannot_be_read_promotes_nothing(
    workspace: Workspace, tmp_path: Path, content: bytes
) -> None:
    candidate = Candidate(workspace, tmp_path)
    candidate.gate()
    Path(workspace.signer_uris["promoter"]).write_bytes(content)
    with pytest.raises(UnfitInput, match="promoter"):
        candidate.promote()
    assert workspace.ledger.names("promotions/") == []
    assert state(workspace)["versions"] == {}


def test_a_key_service_that_is_down_promotes_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key in a KMS at an address where nobody listens; the key list knows its public half."""
    candidate = Candidate(workspace, tmp_path)
    candidate.gate()
    entries = [replace(one, uri="awskms:alias/x") if "promoter" in one.roles else one for one in workspace.keyring.keys]
    (public,) = (one.public for one in entries if one.uri)
    public["scheme"], public["keytype"] = "ecdsa-sha2-nistp256", "ecdsa"
    Keyring(tuple(entries)).save(workspace.keyring_path)
    monkeypatch.setenv("ASSAY_PROMOTER_KEY", "awskms:alias/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(Unreachable, match="Could not connect"):
        candidate.promote()
    assert workspace.ledger.names("promotions/") == []


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_an_hour_off_never_promotes_what_is_not_valid_yet_and_order_is_by_sequence(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """The promoter's clock is behind the evaluator's: refused. It is ahead: promoted; then it jumps back."""

    class Clock(datetime):
        shift = timedelta(hours=hours)

        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls.fromtimestamp((datetime.now(tz) + cls.shift).timestamp(), tz)

    candidate = Candidate(workspace, tmp_path / "first")
    candidate.gate()
    for module in ("promote", "promotion_seal"):
        monkeypatch.setattr(f"assay.{module}.datetime", Clock)
    if hours < 0:
        with pytest.raises(Refused, match="time"):
            candidate.promote()
        assert workspace.ledger.names("promotions/") == []
        return
    candidate.promote()
    Clock.shift = timedelta(0)
    second = Candidate(workspace, tmp_path / "second", b"second")
    second.gate()
    assert second.promote()["sequence"] == 2
    first, last = history(workspace.ledger, workspace.keyring, TARGET)
    assert first.promoted_at > last.promoted_at
    assert state(workspace)["aliases"] == {"champion": "2"}
    assert fetch(TARGET, tmp_path / "served")["sequence"] == 2


def rollback_in(home: str, nth: int, answers: Any) -> None:
    os.environ["ASSAY_HOME"] = home
    done = kill_before(nth)
    answers.put((rollback(TARGET, 1, reason="why"), done))


def fetch_in(home: str, out: str, nth: int, answers: Any) -> None:
    os.environ["ASSAY_HOME"] = home
    done = kill_before(nth)
    answers.put((fetch(TARGET, Path(out), registry=False), done))


def two_promoted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Workspace, list[Candidate]]:
    workspace, first = prepared(folder)
    monkeypatch.setenv("ASSAY_HOME", str(workspace.home))
    first.gate()
    first.promote()
    second = Candidate(workspace, folder / "second", b"second")
    second.gate()
    second.promote()
    return workspace, [first, second]


@pytest.mark.slow
def test_a_kill_before_any_write_of_a_rollback_converges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, _ = two_promoted(tmp_path / "0", monkeypatch)
    code, answer = ask(rollback_in, str(workspace.home), 0)
    assert (code, answer[0]["sequence"], len(answer[1]) >= 3) == (0, 3, True)
    for nth in range(1, len(answer[1]) + 1):
        again = tmp_path / str(nth)
        workspace, _ = two_promoted(again, monkeypatch)
        assert ask(rollback_in, str(workspace.home), nth) == (-signal.SIGKILL, None)
        if nth % 2 or len(workspace.ledger.names("promotions/")) == 2:
            assert ask(rollback_in, str(workspace.home), 0)[0] == 0
        else:
            assert ask(reconcile_in, str(workspace.home))[0] == 0
        _, (after, mismatches) = ask(state_of, str(workspace.home))
        assert mismatches == []
        assert (list(after["versions"]), after["aliases"]) == (["1", "2"], {"champion": "1"})
        assert len([name for name in after["ledger"] if name.startswith("promotions/")]) == 3


def test_a_kill_before_any_write_of_the_serving_check_leaves_the_old_model_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also none for the moment between two renames; asked again, the new one is there, and nothing beside it."""
    workspace, (first, second) = two_promoted(tmp_path / "promoted", monkeypatch)
    out = tmp_path / "place" / "served"
    nth, killed = 1, True
    while killed:
        shutil.rmtree(out.parent, ignore_errors=True)
        shutil.copytree(first.model, out)
        code, _ = ask(fetch_in, str(workspace.home), str(out), nth)
        killed = code == -signal.SIGKILL
        assert killed or code == 0
        assert not out.exists() or model_digest(out) in (first.digest, second.digest)
        assert ask(fetch_in, str(workspace.home), str(out), 0)[0] == 0
        assert model_digest(out) == second.digest
        left = {path.name for path in out.parent.iterdir()}
        assert left == {"served", "served.seen.json", "served.seen.json.lock"}
        nth += 1
    assert nth >= 4
