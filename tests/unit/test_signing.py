"""Keys, keyrings and envelopes: who may sign what, and until when."""

from __future__ import annotations

import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from assay import canonical
from assay.errors import Refused, UnfitInput, Unreachable
from assay.keyring import KeyEntry, Keyring, Role, load_signer, make_key, public_entry
from assay.signing import peek, require_valid_at, seal, statement, unseal
from assay.workspace import LOCAL_ROLES, Workspace

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DOCUMENT = statement("evidence", {"model": "a" * 64}, {"value": 1})


def signer(*roles: Role) -> tuple[CryptoSigner, KeyEntry]:
    made = CryptoSigner.generate_ed25519()
    return made, public_entry(made, roles or ("evaluator",))


def open_it(data: bytes, *entries: KeyEntry, **more: object) -> tuple[str, ...]:
    settings = {"kind": "evidence", "role": "evaluator"} | more
    return unseal(data, Keyring(tuple(entries)), **settings).keyids  # type: ignore[arg-type]


def test_a_private_key_is_readable_by_its_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "evaluator.pem"
    entry = make_key(path, ["evaluator"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    before = path.read_bytes()
    with pytest.raises(UnfitInput, match="exists"):
        make_key(path, ["evaluator"])
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["evaluator.pem"]
    assert load_signer(str(path)).public_key.keyid == entry.keyid == load_signer(f"file2:{path}").public_key.keyid


def test_what_a_key_signed_opens_with_its_public_half(tmp_path: Path) -> None:
    made, entry = signer()
    keyring = Keyring((entry,))
    keyring.save(tmp_path / "keys.json")
    opened = unseal(seal(DOCUMENT, [made]), Keyring.load(tmp_path / "keys.json"), kind="evidence", role="evaluator")
    assert (opened.statement, opened.keyids, opened.assurance) == (DOCUMENT, (entry.keyid,), "local")


def test_a_key_without_the_role_is_refused() -> None:
    made, entry = signer("promoter", "uploader")
    with pytest.raises(Refused):
        open_it(seal(DOCUMENT, [made]), entry)


def test_a_threshold_counts_distinct_keys() -> None:
    (first, one), (second, two) = signer(), signer()
    both = seal(DOCUMENT, [first, second])
    assert set(open_it(both, one, two, threshold=2)) == {one.keyid, two.keyid}
    for data in (seal(DOCUMENT, [first]), seal(DOCUMENT, [first, first])):
        with pytest.raises(Refused):
            open_it(data, one, two, threshold=2)
    with pytest.raises(Refused):
        open_it(both, one, threshold=2)


@pytest.mark.parametrize("threshold", [0, -1])
def test_a_threshold_below_one_never_switches_verification_off(threshold: int) -> None:
    _, entry = signer()
    stranger, _ = signer()
    with pytest.raises(Refused):
        open_it(seal(DOCUMENT, [stranger]), entry, threshold=threshold)
    with pytest.raises(Refused):
        open_it(seal(DOCUMENT), entry, threshold=threshold)


def test_one_key_listed_under_two_names_is_refused() -> None:
    """Else one signature, relabelled with the second key id, would reach a threshold of two."""
    _, entry = signer()
    for twin in (replace(entry, keyid="f" * 64), replace(entry, roles=("promoter",))):
        with pytest.raises(UnfitInput, match="twice"):
            Keyring((entry, twin))


def test_one_signature_under_two_key_ids_counts_once() -> None:
    (made, one), (_, two) = signer(), signer()
    envelope = canonical.loads(seal(DOCUMENT, [made]))
    envelope["signatures"].append({"keyid": two.keyid, "sig": envelope["signatures"][0]["sig"]})
    assert open_it(canonical.dumps(envelope), one, two) == (one.keyid,)
    with pytest.raises(Refused):
        open_it(canonical.dumps(envelope), one, two, threshold=2)


def test_a_signature_list_with_one_key_twice_is_refused() -> None:
    made, entry = signer()
    envelope = canonical.loads(seal(DOCUMENT, [made]))
    envelope["signatures"] *= 2
    with pytest.raises(Refused, match="Multiple signatures"):
        open_it(canonical.dumps(envelope), entry)


@pytest.mark.parametrize("signatures", ["", {}, None, 0])
def test_a_signature_list_that_is_no_list_is_not_taken_for_an_unsigned_envelope(signatures: object) -> None:
    envelope = canonical.loads(seal(DOCUMENT)) | {"signatures": signatures}
    with pytest.raises(Refused):
        open_it(canonical.dumps(envelope), allow_unsigned=True)


def test_a_key_counts_within_its_validity_only() -> None:
    made, entry = signer()
    bounded = replace(entry, not_before=NOW.isoformat(), not_after=(NOW + timedelta(days=1)).isoformat())
    data = seal(DOCUMENT, [made])
    assert open_it(data, bounded, now=NOW)
    for instant in (NOW - timedelta(seconds=1), NOW + timedelta(days=1), NOW + timedelta(days=400)):
        with pytest.raises(Refused):
            open_it(data, bounded, now=instant)
    assert open_it(data, bounded)


def test_a_revoked_payload_is_refused() -> None:
    made, entry = signer()
    data = seal(DOCUMENT, [made])
    digest = unseal(data, Keyring((entry,)), kind="evidence", role="evaluator").payload_digest
    with pytest.raises(Refused, match="revoked"):
        unseal(data, Keyring((entry,), frozenset({digest})), kind="evidence", role="evaluator")


def test_unsigned_opens_only_where_asked_for_and_a_bad_signature_never() -> None:
    made, entry = signer()
    stranger, _ = signer()
    assert unseal(seal(DOCUMENT), Keyring(), kind="evidence", role="evaluator", allow_unsigned=True).keyids == ()
    with pytest.raises(Refused):
        open_it(seal(DOCUMENT), entry)
    for keyring in (Keyring((entry,)), Keyring()):
        with pytest.raises(Refused):
            unseal(seal(DOCUMENT, [stranger]), keyring, kind="evidence", role="evaluator", allow_unsigned=True)
    assert made is not None


@pytest.mark.parametrize("kind", ["decision", "promotion", "incident"])
def test_a_statement_of_one_kind_never_passes_as_another(kind: str) -> None:
    made, entry = signer()
    with pytest.raises(Refused, match="predicate"):
        unseal(seal(DOCUMENT, [made]), Keyring((entry,)), kind=kind, role="evaluator")


@pytest.mark.parametrize("order", [1, -1])
def test_assurance_is_managed_when_managed_keys_alone_reach_the_threshold(order: int) -> None:
    (first, one), (second, two) = signer(), signer()
    keyring = Keyring((replace(one, assurance="managed"), two))
    both = seal(DOCUMENT, [first, second][::order])

    def assurance(data: bytes, threshold: int) -> str:
        return unseal(data, keyring, kind="evidence", role="evaluator", threshold=threshold).assurance

    assert assurance(seal(DOCUMENT, [first]), 1) == "managed"
    assert assurance(seal(DOCUMENT, [second]), 1) == "local"
    assert assurance(both, 1) == "managed"
    assert assurance(both, 2) == "local"


def test_a_missing_keyring_verifies_nothing(tmp_path: Path) -> None:
    made, _ = signer()
    keyring = Keyring.load(tmp_path / "none.json")
    with pytest.raises(Refused):
        unseal(seal(DOCUMENT, [made]), keyring, kind="evidence", role="evaluator")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema":"assay.keys/v2","keys":[]}', '{"schema":"assay.keys/v1"}'])
def test_a_broken_keyring_is_an_error_never_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(UnfitInput):
        Keyring.load(path)


def test_a_key_service_that_fails_is_unreachable_and_signs_nothing() -> None:
    made, _ = signer()

    def sign(payload: bytes) -> None:
        raise RuntimeError("no route to the key service")

    made.sign = sign  # type: ignore[method-assign, assignment]
    with pytest.raises(Unreachable, match="no route"):
        seal(DOCUMENT, [made])


@pytest.mark.parametrize("uri", ["/nowhere/key.pem", "file2:/nowhere/key.pem", "awskms:alias/none", "unknown:key"])
def test_a_key_that_is_not_there_is_an_error(uri: str) -> None:
    with pytest.raises(UnfitInput):
        load_signer(uri)


def test_a_look_without_verification_shows_the_statement() -> None:
    made, _ = signer()
    assert peek(seal(DOCUMENT, [made])) == DOCUMENT


# ---------------------------------------------------------------- the keys of a laptop


def test_initialise_makes_three_different_keys_once(workspace: Workspace) -> None:
    made = workspace.initialise()
    roles = {entry.keyid: (entry.roles, entry.assurance) for entry in workspace.keyring.keys}
    assert sorted(roles.values()) == [((role,), "local") for role in sorted(LOCAL_ROLES)]
    for role in LOCAL_ROLES:
        (made_for,) = workspace.signers(role)
        assert roles[made_for.public_key.keyid][0] == (role,)
    assert len(roles) == 3
    assert len(made) == 5
    before = {path: path.read_bytes() for path in workspace.home.rglob("*") if path.is_file()}
    assert workspace.initialise() == []
    assert {path: path.read_bytes() for path in workspace.home.rglob("*") if path.is_file()} == before
    assert (workspace.home / ".gitignore").read_text() == "*\n"


def test_initialise_leaves_a_key_that_a_setting_places_elsewhere(workspace: Workspace, tmp_path: Path) -> None:
    placed = replace(workspace, signer_uris=workspace.signer_uris | {"promoter": str(tmp_path / "mounted.pem")})
    placed.initialise()
    assert placed.signers("promoter") == []
    assert [entry.roles for entry in placed.keyring.keys] == [("custodian",), ("evaluator",)]


def test_initialise_keeps_the_keys_and_revocations_that_are_listed(workspace: Workspace) -> None:
    _, other = signer("uploader")
    Keyring((other,), frozenset({"0" * 64})).save(workspace.keyring_path)
    workspace.initialise()
    assert workspace.keyring.keys[0] == other
    assert len(workspace.keyring.keys) == 4
    assert workspace.keyring.revoked == {"0" * 64}


def initialise_at(home: str) -> list[str]:
    from assay.workspace import Workspace

    workspace = Workspace.from_env()
    assert str(workspace.home) == home
    workspace.initialise()
    return [entry.keyid for entry in workspace.keyring.keys]


def test_processes_that_initialise_at_once_agree_on_the_keys(workspace: Workspace) -> None:
    with get_context("fork").Pool(4) as pool:
        listed = pool.map(initialise_at, [str(workspace.home)] * 8, chunksize=1)
    assert len({tuple(keyids) for keyids in listed}) == 1
    assert {signer.public_key.keyid for role in LOCAL_ROLES for signer in workspace.signers(role)} == {*listed[0]}


# ---------------------------------------------------------------- key lists


def test_a_revoked_key_counts_for_nothing_whenever_it_signed() -> None:
    (made, entry), (other, second) = signer(), signer()
    keyring = Keyring((entry, second), revoked_keys=frozenset({entry.keyid}))
    with pytest.raises(Refused):
        unseal(seal(DOCUMENT, [made]), keyring, kind="evidence", role="evaluator")
    both = unseal(seal(DOCUMENT, [made, other]), keyring, kind="evidence", role="evaluator")
    assert both.keyids == (second.keyid,)


def test_the_keyring_says_how_many_signatures_a_role_needs(tmp_path: Path) -> None:
    (first, one), (second, two) = signer("promoter"), signer("promoter", "evaluator")
    keyring = Keyring((one, two), thresholds={"promoter": 2})
    document = statement("promotion", {"model": "a" * 64}, {})
    keyring.save(tmp_path / "keys.json")
    assert Keyring.load(tmp_path / "keys.json") == keyring
    both = unseal(seal(document, [first, second]), keyring, kind="promotion", role="promoter")
    assert set(both.keyids) == {one.keyid, two.keyid}
    for signers in ([first], [second], [first, first]):
        with pytest.raises(Refused, match="2 signature"):
            unseal(seal(document, signers), keyring, kind="promotion", role="promoter")
    assert unseal(seal(DOCUMENT, [second]), keyring, kind="evidence", role="evaluator").keyids == (two.keyid,)
    late = replace(one, not_after=NOW.isoformat())
    with pytest.raises(Refused, match="valid at"):
        require_valid_at(both, replace(keyring, keys=(late, two)), "promoter", NOW, "promotion")


@pytest.mark.parametrize("least", [0, -1, 2, True, "1", 1.0])
def test_a_threshold_that_cannot_be_or_cannot_be_reached_is_an_error(least: object) -> None:
    _, entry = signer("promoter")
    with pytest.raises(UnfitInput, match="thresholds"):
        Keyring((entry,), thresholds={"promoter": least})  # type: ignore[dict-item]


BROKEN = [
    {"keys": [{"roles": ["admin"]}]},
    {"keys": [{"roles": []}]},
    {"keys": [{"assurance": "high"}]},
    {"keys": [{"not_after": "tomorrow"}]},
    {"keys": [{"not_before": "2026-01-01T00:00:00"}]},
    {"keys": [{"public": {}}]},
    {"keys": [{"extra": 1}]},
    {"keys": {}},
    {"revoked": ["abc"]},
    {"revoked": 1},
    {"revoked": [1]},
    {"revoked_keys": 1},
    {"thresholds": {"promoter": 1}},
    {"thresholds": {"admin": 1}},
    {"thresholds": 3},
]


@pytest.mark.parametrize("change", BROKEN, ids=range(len(BROKEN)))
def test_a_key_list_with_anything_wrong_is_an_error(tmp_path: Path, change: dict[str, object]) -> None:
    _, entry = signer()
    Keyring((entry,)).save(tmp_path / "keys.json")
    document = canonical.read(tmp_path / "keys.json")
    if isinstance(change.get("keys"), list):
        change = {"keys": [document["keys"][0] | change["keys"][0]]}  # type: ignore[index]
    (tmp_path / "keys.json").write_bytes(canonical.dumps(document | change))
    with pytest.raises(UnfitInput):
        Keyring.load(tmp_path / "keys.json")


def test_several_keys_of_a_role_sign_together(workspace: Workspace, tmp_path: Path) -> None:
    workspace.initialise()
    second = make_key(tmp_path / "second.pem", ["promoter"])
    Keyring((*workspace.keyring.keys, second), thresholds={"promoter": 2}).save(workspace.keyring_path)
    uris = f"{workspace.signer_uris['promoter']},{tmp_path / 'second.pem'}"
    both = replace(workspace, signer_uris=workspace.signer_uris | {"promoter": uris}).signers("promoter")
    data = seal(statement("promotion", {}, {}), both)
    assert len(unseal(data, workspace.keyring, kind="promotion", role="promoter").keyids) == 2


def test_a_key_in_a_kms_signs_what_its_public_half_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service is moto's; the client, the URI and the verification are the real ones.

    moto knows no ``MessageType=DIGEST`` and would hash the digest again; the service signs the digest as it is.
    """
    import boto3
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256
    from moto import mock_aws
    from moto.kms.utils import ECDSAPrivateKey
    from securesystemslib.signer import AWSSigner

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    prehashed = ec.ECDSA(Prehashed(SHA256()))
    monkeypatch.setattr(ECDSAPrivateKey, "sign", lambda self, digest, _: self.private_key.sign(digest, prehashed))
    with mock_aws():
        made = boto3.client("kms").create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
        uri, public = AWSSigner.import_(made)
        entry = KeyEntry(
            keyid=public.keyid, public=public.to_dict(), roles=("evaluator",), assurance="managed", uri=uri
        )
        keyring = Keyring((entry,))
        data = seal(DOCUMENT, [load_signer(uri, keyring)])
    opened = unseal(data, keyring, kind="evidence", role="evaluator")
    assert (opened.keyids, opened.assurance) == ((public.keyid,), "managed")
    with pytest.raises(UnfitInput, match="no keyring entry"):
        load_signer(uri, Keyring())


@pytest.mark.parametrize(
    ("uri", "extra"),
    [("gcpkms:projects/p", "gcpkms"), ("azurekms://v/keys/k/1", "azurekms"), ("hv:k/1", "vault")],
)
def test_a_kms_without_its_client_library_names_what_to_install(uri: str, extra: str) -> None:
    _, entry = signer()
    with pytest.raises(UnfitInput, match=rf"securesystemslib\[{extra}\]"):
        load_signer(uri, Keyring((replace(entry, uri=uri),)))
