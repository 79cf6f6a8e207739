"""Keys: who may sign in which role, and the signers behind them. No cryptography of our own.

A keyring lists the public keys that may sign, each with the role it may sign in, its assurance (``local`` for a key
made on a laptop, ``managed`` for one from a KMS or a mounted secret) and when it may sign; how many signatures a role
needs; and what counts no more: payloads, by digest, and keys. A key that is rotated gets a ``not_after``: what it
signed before stays good, by the instant that the statement itself names. A key that leaked is revoked: nothing it
signed counts, whatever instant it names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from assay import canonical
from assay.data.files import create_file, write_file
from assay.errors import UnfitInput

Role = Literal["uploader", "custodian", "evaluator", "promoter", "approver"]
Assurance = Literal["local", "managed"]
LISTS = ("revoked", "revoked_keys", "policies")
EXTRAS = {"awskms": "awskms", "gcpkms": "gcpkms", "azurekms": "azurekms", "hv": "vault"}

__all__ = ["Assurance", "KeyEntry", "Keyring", "Role", "load_signer", "make_key", "public_entry"]


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
