"""Going back is a promotion forward: signed, in order, to a model that was promoted before and still counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from promotion_cases import FLOOR, NO_WORSE, TARGET, Candidate, against_champion, moved, policy, state

from assay.audit import audit
from assay.cli.main import run
from assay.errors import AssayError, Conflict, Refused, UnfitInput
from assay.ledger import FileLedger
from assay.promotions import champion, history, name_of
from assay.reconcile import reconcile
from assay.registry import Registry
from assay.rollback import rollback
from assay.serving import fetch
from assay.signing import payload_digest, peek, seal
from assay.workspace import Workspace

Three = tuple[Candidate, Candidate, Candidate]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Three:
    """Three champions, one after the other."""
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_HOME", str(folder / ".assay"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = Workspace.from_env()
        first = Candidate(workspace, folder / "first")
        first.through()
        second = Candidate(workspace, folder / "second", b"second", **against_champion(first.digest))
        second.through(policy(FLOOR, NO_WORSE))
        third = Candidate(workspace, folder / "third", b"third", **against_champion(second.digest))
        third.through(policy(FLOOR, NO_WORSE))
    return first, second, third


@pytest.fixture
def three(once: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Three:
    """The same in a workspace of this test's own."""
    first = moved(once[0], tmp_path / "home", monkeypatch)
    for one in once[1:]:
        one.workspace = first.workspace
    return first, once[1], once[2]


@pytest.fixture
def workspace(three: Three) -> Workspace:
    return three[0].workspace


def test_a_rollback_is_the_next_promotion_of_the_earlier_version(workspace: Workspace, three: Three) -> None:
    answer = rollback(TARGET, 1, reason="backdoor found")
    facts = ("version", "sequence", "rollback_to", "head", "evidence")
    assert [answer[name] for name in facts] == ["1", 4, 1, 4, three[0].evidence.id]
    promotions = history(workspace.ledger, workspace.keyring, TARGET)
    assert [(made.sequence, made.model) for made in promotions][-1] == (4, three[0].digest)
    assert promotions[3].previous == promotions[2].id
    assert promotions[3].bound == promotions[0].bound
    assert champion(promotions, besides="") == three[0].digest
    reached = state(workspace)
    assert (list(reached["versions"]), reached["aliases"]) == (["1", "2", "3"], {"champion": "1"})
    assert audit(workspace)["mismatches"] == []
    assert reconcile(workspace) == {"finished": [], "moved": []}
    said = peek(workspace.ledger.get(name_of(TARGET, 4)))["predicate"]
    assert said["rollback"] == {"sequence": 1, "promotion": promotions[0].id, "reason": "backdoor found"}


def test_the_server_follows_a_rollback_and_refuses_the_version_it_left(three: Three, tmp_path: Path) -> None:
    out = tmp_path / "served"
    assert fetch(TARGET, out)["sequence"] == 3
    rollback(TARGET, 2, reason="brittle")
    answer = fetch(TARGET, out)
    facts = (answer["sequence"], answer["rollback_to"], answer["model"]["digest"])
    assert facts == (4, 2, three[1].digest)
    from mlflow import MlflowClient

    MlflowClient(three[0].workspace.tracking_uri).set_registered_model_alias("digits", "champion", "3")
    with pytest.raises(Refused, match="alias"):
        fetch(TARGET, out)


def test_a_rollback_asked_again_finds_its_work_done(workspace: Workspace, three: Three) -> None:
    first = rollback(TARGET, 1, reason="why")
    before = state(workspace)
    assert rollback(TARGET, 1, reason="why") == first
    assert rollback(TARGET, 4, reason="why") == first, "to where it stands"
    assert state(workspace) == before


def test_a_rollback_may_be_followed_by_another_and_by_a_promotion(
    workspace: Workspace, three: Three, tmp_path: Path
) -> None:
    rollback(TARGET, 1, reason="why")
    assert rollback(TARGET, 3, reason="false alarm")["sequence"] == 5
    assert rollback(TARGET, 4, reason="true after all")["rollback_to"] == 1, "a rollback's own origin"
    fourth = Candidate(workspace, tmp_path / "fourth", b"fourth", **against_champion(three[0].digest))
    fourth.through(policy(FLOOR, NO_WORSE))
    assert state(workspace)["aliases"] == {"champion": "4"}
    assert [made.sequence for made in history(workspace.ledger, workspace.keyring, TARGET)] == list(range(1, 8))
    assert audit(workspace)["mismatches"] == []


@pytest.mark.parametrize(("sequence", "reason"), [(0, "why"), (-1, "why"), (4, "why"), (1, ""), (1, "  ")])
def test_a_rollback_needs_an_earlier_promotion_and_a_reason(three: Three, sequence: int, reason: str) -> None:
    before = state(three[0].workspace)
    with pytest.raises(UnfitInput):
        rollback(TARGET, sequence, reason=reason)
    assert state(three[0].workspace) == before


def unchanged(workspace: Workspace, match: str, error: type[AssayError] = Refused) -> None:
    before = state(workspace)
    with pytest.raises(error, match=match):
        rollback(TARGET, 1, reason="why")
    assert state(workspace) == before


def test_nothing_goes_back_to_what_counts_no_more(workspace: Workspace, three: Three) -> None:
    keyring, ledger = workspace.keyring, workspace.ledger
    made = history(ledger, keyring, TARGET)[0]
    for name in (f"evidence/{made.evidence}.dsse.json", f"decisions/{made.decision}.dsse.json"):
        replace(keyring, revoked=frozenset({payload_digest(ledger.get(name))})).save(workspace.keyring_path)
        unchanged(workspace, "revoked")
    keyring.save(workspace.keyring_path)
    (workspace.home / "ledger" / "models" / made.model / "weights.safetensors").write_bytes(b"swapped")
    unchanged(workspace, "other files")


def test_without_a_promoter_key_nothing_goes_back(workspace: Workspace, three: Three) -> None:
    Path(workspace.signer_uris["promoter"]).unlink()
    unchanged(workspace, "promoter key")


def test_a_promotion_that_comes_in_between_is_not_undone(
    workspace: Workspace, three: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Candidate(workspace, tmp_path / "late", b"late", **against_champion(three[2].digest))
    late.gate(policy(FLOOR, NO_WORSE))
    put = FileLedger.put

    def overtaken(self: FileLedger, name: str, data: bytes) -> bool:
        if name == name_of(TARGET, 4):
            monkeypatch.setattr(FileLedger, "put", put)
            late.promote()
        return put(self, name, data)

    monkeypatch.setattr(FileLedger, "put", overtaken)
    with pytest.raises(Refused, match="meanwhile") as caught:
        rollback(TARGET, 1, reason="why")
    assert isinstance(caught.value.__cause__, Conflict)
    assert state(workspace)["aliases"] == {"champion": "4"}


def test_a_rollback_that_was_cut_off_is_finished_by_reconcile(
    workspace: Workspace, three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as cut:

        def point(self: Registry, promotion: object, version: str) -> None:
            raise KeyboardInterrupt

        cut.setattr(Registry, "point", point)
        with pytest.raises(KeyboardInterrupt):
            rollback(TARGET, 2, reason="why")
    assert state(workspace)["aliases"] == {"champion": "3"}
    assert reconcile(workspace)["finished"] == ["digits@champion/4"]
    assert state(workspace)["aliases"] == {"champion": "2"}
    assert audit(workspace)["mismatches"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 2},
        {"sequence": 9},
        {"promotion": "0" * 64},
    ],
)
def test_a_rollback_that_names_another_promotion_breaks_the_chain(
    workspace: Workspace, three: Three, change: dict[str, object]
) -> None:
    """Even one that a promoter's key signed: it cannot pass one model's version off as another's."""
    rollback(TARGET, 1, reason="why")
    ledger = workspace.ledger
    said = peek(ledger.get(name_of(TARGET, 4)))
    said["predicate"]["rollback"] |= change
    (workspace.home / "ledger" / name_of(TARGET, 4)).unlink()
    ledger.put(name_of(TARGET, 4), seal(said, workspace.signers("promoter")))
    with pytest.raises(Refused, match="rollback"):
        history(ledger, workspace.keyring, TARGET)


def test_the_verb_goes_back(workspace: Workspace, three: Three, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["promote", "--target", "digits@champion", "--rollback-to", "1"]
    assert run(given) == 2
    assert "--reason" in capsys.readouterr().err
    assert run([*given, "--reason", "incident", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rollback_to"] == 1
    assert run([*given, "--reason", "incident"]) == 0
    assert "back at version 1 of digits as champion" in capsys.readouterr().out
    assert run([*given, "--reason", "x", str(three[0].decision_path)]) == 2
