"""Signed statements: in-toto Statements in DSSE envelopes, through securesystemslib. No cryptography of our own.

A keyring lists the public keys that may sign, each with the role it may sign in, its assurance (``local`` for a key
made on a laptop, ``managed`` for one from a KMS or a mounted secret) and when it may sign; how many signatures a role
needs; and what counts no more: payloads, by digest, and keys. A key that is rotated gets a ``not_after``: what it
signed before stays good, by the instant that the statement itself names. A key that leaked is revoked: nothing it
signed counts, whatever instant it names. The signature covers the payload's bytes; what a verifier reads comes from
the verified bytes only.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnsupportedLibraryError, VerificationError
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from assay import canonical
from assay.data.files import create_file, write_file
from assay.errors import Refused, UnfitInput, Unreachable

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MAX_ENVELOPE_BYTES = 16 * 2**20
Role = Literal["uploader", "custodian", "evaluator", "promoter", "approver"]
Assurance = Literal["local", "managed"]
LISTS = ("revoked", "revoked_keys", "policies")
EXTRAS = {"awskms": "awskms", "gcpkms": "gcpkms", "azurekms": "azurekms", "hv": "vault"}

__all__ = [
    "KeyEntry",
    "Keyring",
    "Opened",
    "Role",
    "load_signer",
    "make_key",
    "payload_digest",
    "payload_of",
    "peek",
    "public_entry",
    "require_valid_at",
    "seal",
    "statement",
    "unseal",
]


@dataclass(frozen=True, kw_only=True)
class KeyEntry:
    """A public key and what it may do.

    Fields:
        keyid: as securesystemslib computes it.
        public: keytype, scheme and value, as securesystemslib writes them.
        roles: what it may sign.
        assurance: ``local`` or ``managed``.
        not_before, not_after: ISO 8601 instants with zone, or empty for no limit.
        uri: of the private half in a KMS, or empty.
    """

    keyid: str
    public: dict[str, Any]
    roles: tuple[Role, ...]
    assurance: Assurance = "local"
    not_before: str = ""
    not_after: str = ""
    uri: str = ""

    def __post_init__(self) -> None:
        if not self.roles or {*self.roles} - {*get_args(Role)} or self.assurance not in get_args(Assurance):
            raise UnfitInput(
                f"key {self.keyid[:12]}",
                f"roles {', '.join(self.roles) or 'none'}, assurance {self.assurance}",
                f"roles among {', '.join(get_args(Role))}, assurance local or managed",
            )
        for instant in (self.not_before, self.not_after):
            if instant and datetime.fromisoformat(instant).tzinfo is None:
                raise UnfitInput(f"key {self.keyid[:12]}", f"{instant}, without a zone", "such as 2027-01-01T00:00:00Z")

    def key(self) -> Key:
        """The key as securesystemslib knows it."""
        return SSlibKey.from_dict(self.keyid, dict(self.public))

    def valid_at(self, now: datetime) -> bool:
        """Whether the instant lies within the key's validity."""
        after = not self.not_before or datetime.fromisoformat(self.not_before) <= now
        return after and (not self.not_after or now < datetime.fromisoformat(self.not_after))


@dataclass(frozen=True)
class Keyring:
    """The public keys that may sign, and what counts no more.

    Fields:
        keys: each listed once, with all its roles: under two names, one signature would count for two.
        revoked: SHA-256 of revoked payloads.
        revoked_keys: ids of keys whose signatures count no more, whenever they were made.
        thresholds: by role, how many distinct keys have to sign; 1 where it is not listed.
        policies: digests of the policies that were reviewed: a decision under another promotes and serves nothing.
            Empty lets every policy count.

    Raises:
        UnfitInput: a key id, or a public key, listed twice; a threshold that its role's keys cannot reach.
    """

    keys: tuple[KeyEntry, ...] = ()
    revoked: frozenset[str] = field(default_factory=frozenset)
    revoked_keys: frozenset[str] = field(default_factory=frozenset)
    thresholds: Mapping[Role, int] = field(default_factory=dict)
    policies: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        for facts in ([entry.keyid for entry in self.keys], [_key_material(entry) for entry in self.keys]):
            if len(set(facts)) != len(facts):
                raise UnfitInput("keyring", "one key listed twice", "each key once, with all its roles")
        if not all(re.fullmatch(r"[0-9a-f]{64}", entry) for entry in self.revoked | self.policies):
            raise UnfitInput("keyring: revoked, policies", "something else than SHA-256", "64 hexadecimal digits each")
        for role, least in self.thresholds.items():
            listed = sum(role in entry.roles for entry in self.keys)
            if role not in get_args(Role) or type(least) is not int or not 1 <= least <= listed:
                raise UnfitInput(f"keyring: thresholds: {role}", repr(least), f"1 to {listed}, the keys of that role")

    def for_role(self, role: Role, now: datetime | None = None) -> list[KeyEntry]:
        """The keys that may sign in a role (at an instant)."""
        standing = [entry for entry in self.keys if entry.keyid not in self.revoked_keys]
        return [entry for entry in standing if role in entry.roles and (now is None or entry.valid_at(now))]

    def threshold(self, role: Role) -> int:
        """How many distinct keys of the role have to sign; at least 1."""
        return max(self.thresholds.get(role, 1), 1)

    @classmethod
    def load(cls, path: Path | str) -> Keyring:
        """Read ``keys.json``; a missing file is an empty keyring, which verifies nothing."""
        if not Path(path).exists():
            return cls()
        document = canonical.require_schema(canonical.read(path), "assay.keys", str(path))
        try:
            entries = tuple(KeyEntry(**entry | {"roles": tuple(entry["roles"])}) for entry in document["keys"])
            for entry in entries:
                entry.key()
            lists = [document["keys"], *(document.get(name, []) for name in LISTS)]
            if not all(isinstance(listed, list) for listed in lists):
                raise TypeError(f"keys, {', '.join(LISTS)} are lists")
            revoked, revoked_keys, policies = (frozenset(listed) for listed in lists[1:])
            return cls(entries, revoked, revoked_keys, dict(document.get("thresholds", {})), policies)
        except UnfitInput:
            raise
        except Exception as error:  # securesystemslib raises many kinds; all mean a broken key list
            raise UnfitInput(str(path), f"{type(error).__name__}: {error}", "an assay.keys/v1 document") from error

    def save(self, path: Path | str) -> None:
        """Write ``keys.json`` whole."""
        document: dict[str, Any] = {
            "schema": "assay.keys/v1",
            "keys": [asdict(entry) for entry in self.keys],
            "revoked": sorted(self.revoked),
        }
        document |= {"revoked_keys": sorted(self.revoked_keys)} if self.revoked_keys else {}
        document |= {"thresholds": dict(self.thresholds)} if self.thresholds else {}
        document |= {"policies": sorted(self.policies)} if self.policies else {}
        write_file(path, canonical.dumps(document))


@dataclass(frozen=True)
class Opened:
    """A statement from a verified envelope, and who signed it.

    Fields:
        statement: the in-toto Statement.
        keyids: of all keys of the role whose signatures hold; empty for an unsigned envelope.
        assurance: ``managed`` when managed keys alone reach the threshold; ``local`` otherwise, and when unsigned.
        payload_digest: SHA-256 of the payload's bytes.
    """

    statement: dict[str, Any]
    keyids: tuple[str, ...]
    assurance: Assurance
    payload_digest: str

    @property
    def predicate(self) -> dict[str, Any]:
        """The statement's predicate."""
        return dict(self.statement["predicate"])


def _key_material(entry: KeyEntry) -> str:
    """The public value without the white space that PEM texts differ in."""
    return "".join(str(entry.public.get("keyval")).replace("\\n", "").split())


def make_key(path: Path | str, roles: Iterable[Role], assurance: Assurance = "local") -> KeyEntry:
    """Make an ed25519 key: the private PEM at ``path``, mode 0600, whole or not at all; returns its public entry.

    Raises:
        UnfitInput: ``path`` is there already; a key is never overwritten.
    """
    signer = CryptoSigner(Ed25519PrivateKey.generate())
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not create_file(target, signer.private_bytes, mode=0o600):
        raise UnfitInput(str(target), "a file that exists", "a new name for the private key")
    return public_entry(signer, roles, assurance)


def public_entry(signer: Signer, roles: Iterable[Role], assurance: Assurance = "local") -> KeyEntry:
    """The keyring entry of a signer's public key."""
    key = signer.public_key
    return KeyEntry(keyid=key.keyid, public=key.to_dict(), roles=tuple(roles), assurance=assurance)


def load_signer(uri: str, keyring: Keyring | None = None) -> Signer:
    """The signer behind a path to a PEM file, or a KMS URI of securesystemslib.

    Known: ``awskms:``, ``gcpkms:``, ``azurekms:``, ``hv:`` (HashiCorp Vault), each with its client library.

    A KMS key needs its public half in the keyring, in an entry with this URI.

    Raises:
        UnfitInput: no such key, or one that cannot be read.
    """
    scheme, _, rest = uri.partition(":")
    try:
        if rest and scheme != "file2":
            entry = next((entry for entry in (keyring or Keyring()).keys if entry.uri == uri), None)
            if entry is None:
                raise UnfitInput(f"key {uri}", "no keyring entry with this uri", "its public key in keys.json")
            return Signer.from_priv_key_uri(uri, entry.key())
        return CryptoSigner(load_pem_private_key(Path(uri.removeprefix("file2:")).read_bytes(), password=None))
    except UnfitInput:
        raise
    except UnsupportedLibraryError as error:
        extra = f"pip install 'securesystemslib[{EXTRAS.get(scheme, scheme)}]'"
        raise UnfitInput(f"key {uri}", str(error), f"the client library of {scheme}", extra) from error
    except OSError as error:
        raise UnfitInput(
            f"key {uri}", error.strerror or str(error), "a readable PEM file", "assay init makes one."
        ) from error
    except Exception as error:  # key parsers and KMS clients raise their own kinds
        raise UnfitInput(f"key {uri}", f"{type(error).__name__}: {error}", "a private key that loads") from error


def statement(kind: str, subjects: dict[str, str], predicate: dict[str, Any]) -> dict[str, Any]:
    """An in-toto Statement v1 of predicate type ``urn:assay:<kind>:v1`` about subjects (name to SHA-256)."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": value}} for name, value in sorted(subjects.items())],
        "predicateType": f"urn:assay:{kind}:v1",
        "predicate": {"schema": f"assay.{kind}/v1"} | predicate,
    }


def seal(document: dict[str, Any], signers: Iterable[Signer] = ()) -> bytes:
    """The envelope of a statement, signed by each signer; without one the signature list is empty.

    Raises:
        Unreachable: a key service that does not sign; nothing was written.
    """
    envelope = Envelope(canonical.dumps(document), PAYLOAD_TYPE, {})
    for signer in signers:
        try:
            envelope.sign(signer)
        except Exception as error:  # every key service raises its own kinds
            raise Unreachable("signing", f"{type(error).__name__}: {error}", "a key service that signs") from error
    return canonical.dumps(envelope.to_dict())


def peek(data: bytes, where: str = "envelope") -> dict[str, Any]:
    """The statement of an envelope, UNVERIFIED: for display and indexes, never for a decision."""
    return _statement(_envelope(data, where).payload, where)


def payload_of(data: bytes, where: str = "envelope") -> bytes:
    """The payload of an envelope, UNVERIFIED and not parsed."""
    return bytes(_envelope(data, where).payload)


def payload_digest(data: bytes, where: str = "envelope") -> str:
    """SHA-256 of the payload of an envelope, UNVERIFIED: what `Keyring.revoked` lists."""
    return canonical.sha256(payload_of(data, where))


def require_valid_at(opened: Opened, keyring: Keyring, role: Role, instant: datetime, where: str) -> None:
    """Enough of the keys that signed were valid at the instant that the statement names.

    Raises:
        Refused: too few were.
    """
    valid = {entry.keyid for entry in keyring.for_role(role, instant)} & {*opened.keyids}
    if len(valid) < keyring.threshold(role):
        raise Refused(
            f"{where}: signature",
            f"{len(valid)} key(s) of role {role} that were valid at {instant.isoformat()}",
            f"{keyring.threshold(role)}",
        )


def unseal(
    data: bytes,
    keyring: Keyring,
    *,
    kind: str,
    role: Role,
    threshold: int | None = None,
    now: datetime | None = None,
    allow_unsigned: bool = False,
    where: str = "envelope",
) -> Opened:
    """Verify an envelope and return its statement.

    Steps: 1. size and shape of the envelope; 2. at least ``threshold`` signatures of distinct keys of the role, valid
    now; 3. payload type; 4. the payload parses strictly; 5. it is a Statement with the expected predicate type and
    schema; 6. it is not revoked.

    Args:
        data: bytes of the envelope.
        keyring: whom to trust.
        kind: ``evidence``, ``decision``, ``promotion``, ``incident``, ``batch``, ``quarantine``.
        role: in which the signers must be listed.
        threshold: signatures needed, at least 1; by default what the keyring asks of the role.
        now: the instant at which keys must be valid; None skips that check.
        allow_unsigned: accept an envelope with an EMPTY signature list (the gate then answers inconclusive). One with
            signatures is always verified.
        where: for messages.

    Raises:
        Refused: any of the steps says no.
    """
    least = keyring.threshold(role) if threshold is None else max(threshold, 1)
    try:
        envelope = _envelope(data, where)
        keyids: tuple[str, ...] = ()
        entries = {entry.keyid: entry for entry in keyring.for_role(role, now)}
        if envelope.signatures or not allow_unsigned:
            accepted = envelope.verify([entry.key() for entry in entries.values()], least)
            rest = entries.keys() & envelope.signatures.keys() - accepted.keys()
            keyids = tuple(sorted([*accepted, *(keyid for keyid in rest if _signed_by(envelope, entries[keyid]))]))
        if envelope.payload_type != PAYLOAD_TYPE:
            raise Refused(f"{where}: payload type", envelope.payload_type, PAYLOAD_TYPE)
        document = _statement(envelope.payload, where)
    except Refused:
        raise
    except Exception as error:  # securesystemslib refuses by KeyError, TypeError, ValueError, VerificationError, ...
        raise Refused(
            f"{where}: signature", f"{type(error).__name__}: {error}", f"{least} signature(s) of role {role}"
        ) from error
    _require_kind(document, kind, where)
    payload_digest = canonical.sha256(envelope.payload)
    if payload_digest in keyring.revoked:
        raise Refused(where, f"payload {payload_digest[:12]}, which is revoked", "a payload that still counts")
    managed = sum(entries[keyid].assurance == "managed" for keyid in keyids)
    return Opened(document, keyids, "managed" if managed >= least else "local", payload_digest)


def _signed_by(envelope: Envelope, entry: KeyEntry) -> bool:
    """Whether one key's signature holds; the library stops counting at the threshold, we name every signer."""
    try:
        envelope.verify([entry.key()], 1)
    except VerificationError:
        return False
    return True


def _envelope(data: bytes, where: str) -> Envelope:
    document = canonical.loads(data, where, MAX_ENVELOPE_BYTES)
    try:
        texts = [document["payload"], *(entry["sig"] for entry in document["signatures"])]
        if any(base64.b64encode(base64.b64decode(text)).decode() != text for text in texts):
            raise ValueError("base64 in another form than the one every encoder writes")
        envelope = Envelope.from_dict(document)
    except Exception as error:  # the parser raises many kinds
        raise UnfitInput(where, f"{type(error).__name__}: {error}", "a DSSE envelope") from error
    if not isinstance(document["signatures"], list):
        raise UnfitInput(f"{where}: signatures", type(document["signatures"]).__name__, "a list")
    return envelope


def _statement(payload: bytes, where: str) -> dict[str, Any]:
    document = canonical.loads(payload, f"{where}: payload", MAX_ENVELOPE_BYTES)
    if not isinstance(document, dict) or document.get("_type") != STATEMENT_TYPE:
        raise UnfitInput(f"{where}: payload", "another document", f"a {STATEMENT_TYPE}")
    if not isinstance(document.get("predicate"), dict) or not isinstance(document.get("subject"), list):
        raise UnfitInput(f"{where}: payload", "no predicate or subject", f"a {STATEMENT_TYPE}")
    return document


def _require_kind(document: dict[str, Any], kind: str, where: str) -> None:
    got = (document.get("predicateType"), document["predicate"].get("schema"))
    need = (f"urn:assay:{kind}:v1", f"assay.{kind}/v1")
    if got != need:
        raise Refused(f"{where}: predicate", f"{got[0]} with schema {got[1]}", f"{need[0]} with schema {need[1]}")
