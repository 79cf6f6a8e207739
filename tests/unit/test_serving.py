"""The serving check: what was promoted last is handed over, verified as a private copy; nothing else is, ever."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promotion_cases import FLOOR, NO_WORSE, TARGET, Candidate, against_champion, moved, policy, tree

from assay import canonical
from assay.cli.main import run
from assay.config.root import Target
from assay.errors import AssayError, Refused, UnfitInput
from assay.keyring import Keyring
from assay.models.spec import model_digest
from assay.promotions import name_of
from assay.serving import fetch
from assay.signing import payload_digest
from assay.workspace import Workspace


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """A model that was promoted."""
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_HOME", str(folder / ".assay"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        made = Candidate(Workspace.from_env(), folder / "first")
        made.through()
    return made


@pytest.fixture
def promoted(once: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Candidate:
    """The same in a workspace of this test's own."""
    return moved(once, tmp_path / "home", monkeypatch)


def second(first: Candidate, folder: Path) -> Candidate:
    """The next champion."""
    made = Candidate(first.workspace, folder / "second", b"second", **against_champion(first.digest))
    made.through(policy(FLOOR, NO_WORSE))
    return made


def refused(out: Path, match: str, error: type[AssayError] = Refused, **given: object) -> None:
    """Refused, and whatever was at ``out`` is what it was, with nothing left beside it."""
    before, beside = tree(out), sorted(path.name for path in out.parent.iterdir() if ".seen" not in path.name)
    with pytest.raises(error, match=match):
        fetch(TARGET, out, **given)  # type: ignore[arg-type]
    assert tree(out) == before
    assert sorted(path.name for path in out.parent.iterdir() if ".seen" not in path.name) == beside


def test_what_was_promoted_is_handed_over_as_a_private_copy(promoted: Candidate, tmp_path: Path) -> None:
    out = tmp_path / "served"
    answer = fetch(TARGET, out)
    assert model_digest(out) == promoted.digest
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in out.iterdir()} == {0o400}
    assert answer["model"] == {"name": "digits", "version": "1", "digest": promoted.digest, "path": str(out)}
    assert (answer["sequence"], answer["rollback_to"], answer["until"], answer["replayed"]) == (1, 0, "", False)
    assert answer["annotations"] == {
        "assay/model-digest": promoted.digest,
        "assay/decision-id": answer["decision"],
        "assay/promotion-sequence": "1",
    }
    assert fetch(TARGET, out) == answer
    assert not list(tmp_path.glob(".assay-tmp-*"))


def test_the_next_promotion_replaces_the_model(promoted: Candidate, tmp_path: Path) -> None:
    out = tmp_path / "served"
    fetch(TARGET, out)
    after = second(promoted, tmp_path)
    assert fetch(TARGET, out)["sequence"] == 2
    assert model_digest(out) == after.digest
    assert not list(tmp_path.glob(".assay-tmp-*"))


def test_public_keys_and_the_ledger_are_enough(promoted: Candidate, tmp_path: Path) -> None:
    for role in ("evaluator", "promoter"):
        Path(promoted.workspace.signer_uris[role]).unlink()  # type: ignore[index]
    (promoted.workspace.home / "mlflow.db").unlink()
    answer = fetch(TARGET, tmp_path / "served", registry=False)
    assert (answer["model"]["version"], answer["model"]["digest"]) == ("", promoted.digest)


def test_a_target_without_a_promotion_serves_nothing(workspace: Workspace, tmp_path: Path) -> None:
    workspace.initialise()
    refused(tmp_path / "served", "no signed promotion", registry=False)


def test_another_target_serves_nothing_of_this_one(promoted: Candidate, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no signed promotion"):
        fetch(Target(model="digits", alias="next"), tmp_path / "served")


@pytest.mark.parametrize("name", ["weights.safetensors", "golden.parquet", "model.json"])
def test_a_byte_changed_in_the_store_is_refused_and_the_served_model_stays(
    promoted: Candidate, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "served"
    fetch(TARGET, out)
    file = promoted.workspace.home / "ledger" / "models" / promoted.digest / name
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    refused(out, "which was promoted")


def test_a_file_added_or_missing_in_the_store_is_refused(promoted: Candidate, tmp_path: Path) -> None:
    folder = promoted.workspace.home / "ledger" / "models" / promoted.digest
    (folder / "loader.py").write_bytes(b"evil")
    refused(tmp_path / "served", "exactly")
    (folder / "loader.py").unlink()
    (folder / "golden.parquet").unlink()
    refused(tmp_path / "served", "exactly")


@pytest.mark.parametrize("kind", ["evidence", "decisions"])
@pytest.mark.parametrize("damage", ["missing", "forged", "empty"])
def test_evidence_and_decision_must_be_there_and_signed(
    promoted: Candidate, tmp_path: Path, kind: str, damage: str
) -> None:
    (file,) = (promoted.workspace.home / "ledger" / kind).iterdir()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "empty" else file.read_bytes().replace(b"a", b"b", 1))
    refused(tmp_path / "served", "need")


def test_the_copy_is_what_is_hashed_not_the_source(
    promoted: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store changes between two reads: whatever was copied is what counts."""
    from assay.ledger import FileLedger

    copy = FileLedger.copy

    def swapped(self: FileLedger, name: str, path: Path) -> None:
        copy(self, name, path)
        if name.endswith("weights.safetensors"):
            path.write_bytes(b"swapped")

    monkeypatch.setattr(FileLedger, "copy", swapped)
    refused(tmp_path / "served", "which was promoted")


def test_a_history_that_ends_before_what_was_seen_is_refused(promoted: Candidate, tmp_path: Path) -> None:
    """Somebody deletes the newest promotion from the store: the one before would be the last."""
    out = tmp_path / "served"
    second(promoted, tmp_path)
    fetch(TARGET, out, registry=False)
    (promoted.workspace.home / "ledger" / name_of(TARGET, 2)).unlink()
    refused(out, "seen before", registry=False)
    assert fetch(TARGET, tmp_path / "elsewhere", registry=False)["sequence"] == 1, "without memory it cannot be told"
    refused(tmp_path / "other", "seen before", registry=False, seen=tmp_path / "served.seen.json")


@pytest.mark.parametrize(
    "text", ["", "{}", '{"schema":"assay.seen/v1"}', '{"schema":"assay.seen/v1","targets":{"a@b":{"sequence":0}}}']
)
def test_a_broken_memory_never_counts_as_none(promoted: Candidate, tmp_path: Path, text: str) -> None:
    (tmp_path / "served.seen.json").write_text(text)
    refused(tmp_path / "served", "need", UnfitInput)


def test_two_histories_of_one_length_are_told_apart(promoted: Candidate, tmp_path: Path) -> None:
    fetch(TARGET, tmp_path / "served")
    memory = tmp_path / "served.seen.json"
    document = canonical.read(memory)
    document["targets"]["digits@champion"]["promotion"] = "0" * 64
    memory.write_bytes(canonical.dumps(document))
    refused(tmp_path / "served", "another promotion 1")


def test_a_revoked_payload_or_key_is_served_no_more(promoted: Candidate, tmp_path: Path) -> None:
    workspace, keyring = promoted.workspace, promoted.workspace.keyring
    ledger = workspace.ledger
    for name in [name for name in ledger.names() if name.endswith(".dsse.json")]:
        replace(keyring, revoked=frozenset({payload_digest(ledger.get(name))})).save(workspace.keyring_path)
        refused(tmp_path / "served", "revoked")
    for entry in (*keyring.for_role("evaluator"), *keyring.for_role("promoter")):
        replace(keyring, revoked_keys=frozenset({entry.keyid})).save(workspace.keyring_path)
        refused(tmp_path / "served", "signature")
    keyring.save(workspace.keyring_path)
    assert fetch(TARGET, tmp_path / "served")["verified"] is True


@pytest.mark.parametrize("role", ["evaluator", "promoter"])
def test_a_rotated_key_counts_for_what_it_signed_while_it_was_valid(
    promoted: Candidate, tmp_path: Path, role: str
) -> None:
    workspace, now = promoted.workspace, datetime.now(UTC)

    def until(instant: datetime) -> None:
        keys = [
            replace(entry, not_after=instant.isoformat()) if role in entry.roles else entry
            for entry in workspace.keyring.keys
        ]
        Keyring(tuple(keys)).save(workspace.keyring_path)

    until(now + timedelta(seconds=1))
    assert fetch(TARGET, tmp_path / "served", now=now + timedelta(days=400))["verified"] is True
    until(now - timedelta(days=1))
    refused(tmp_path / "served", "valid at")


def test_a_policy_may_say_how_long_a_model_is_served(workspace: Workspace, tmp_path: Path) -> None:
    candidate = Candidate(workspace, tmp_path / "first")
    candidate.through(policy(FLOOR, serve_for_s=3600))
    promoted_at = datetime.now(UTC)
    answer = fetch(TARGET, tmp_path / "served", now=promoted_at + timedelta(minutes=59))
    assert datetime.fromisoformat(answer["until"]) <= promoted_at + timedelta(hours=1)
    refused(tmp_path / "served", "served for 3600 s", now=promoted_at + timedelta(hours=1))
    refused(tmp_path / "served", "promoted at", now=promoted_at - timedelta(hours=1))


def test_a_deployment_may_pin_model_and_decision(promoted: Candidate, tmp_path: Path) -> None:
    out = tmp_path / "served"
    answer = fetch(TARGET, out)
    assert fetch(TARGET, out, model=promoted.digest, decision=answer["decision"]) == answer
    refused(out, "annotations", model="0" * 64)
    refused(out, "annotations", decision="0" * 64)


@pytest.mark.parametrize("what", ["file", "link", "folder"])
def test_what_is_no_model_is_never_replaced(promoted: Candidate, tmp_path: Path, what: str) -> None:
    out = tmp_path / "served"
    if what == "folder":
        out.mkdir()
        (out / "precious.txt").write_text("keep")
    elif what == "file":
        out.write_text("keep")
    else:
        out.symlink_to(tmp_path / "first", target_is_directory=True)
    with pytest.raises(UnfitInput):
        fetch(TARGET, out)
    assert out.is_symlink() or (out / "precious.txt").exists() or out.read_text() == "keep"


def test_the_verb_answers_with_one_document_and_its_exit_code(
    promoted: Candidate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "served")
    assert run(["verify-serving", "alias:digits@champion", "--out", out, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verified"] is True
    assert run(["verify-serving", "alias:digits@champion", "--out", out, "--no-registry"]) == 0
    assert "verified: digits@champion, promotion 1" in capsys.readouterr().out
    assert run(["verify-serving", "alias:digits@champion", "--out", out, "--model", "0" * 64, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "Refused"
    for bad in ("digits@champion", "alias:digits", "alias:di gits@champion", "record:a/b:1"):
        assert run(["verify-serving", bad, "--out", out]) == 2
    Path(promoted.workspace.keyring_path).rename(tmp_path / "keys.json")
    assert run(["verify-serving", "alias:digits@champion", "--out", out]) == 1
    assert run(["verify-serving", "alias:digits@champion", "--out", out, "--keys", str(tmp_path / "keys.json")]) == 0
