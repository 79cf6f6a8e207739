"""Signed statements: in-toto Statements in DSSE envelopes, through securesystemslib. No cryptography of our own.

Whose signatures count is in the keyring (`assay.keyring`). The signature covers the payload's bytes; what a verifier
reads comes from the verified bytes only.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Signer

from assay import canonical
from assay.errors import Refused, UnfitInput, Unreachable
from assay.keyring import Assurance, KeyEntry, Keyring, Role

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MAX_ENVELOPE_BYTES = 16 * 2**20

__all__ = [
    "Opened",
    "payload_digest",
    "payload_of",
    "peek",
    "read_envelope",
    "require_valid_at",
    "seal",
    "statement",
    "unseal",
]


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


def read_envelope(path: Path | str) -> bytes:
    """The bytes of a file that somebody names as an envelope, UNVERIFIED and its payload not parsed.

    A file that is no envelope is a mistake of who names it; whether what it holds counts is for `unseal` to say.

    Raises:
        UnfitInput: a file that cannot be read, or is no envelope.
    """
    data = canonical.read_bytes(path, MAX_ENVELOPE_BYTES)
    _envelope(data, str(path))
    return data


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
            if len(entries) < least:
                listed = f"{len(entries)} key(s) that may sign as {role} in the keyring"
                raise Refused(f"{where}: signature", listed, f"{least} at least", "assay doctor says which keyring.")
            accepted = envelope.verify([entry.key() for entry in entries.values()], least)
            rest = entries.keys() & envelope.signatures.keys() - accepted.keys()
            keyids = tuple(sorted([*accepted, *(keyid for keyid in rest if _signed_by(envelope, entries[keyid]))]))
        if envelope.payload_type != PAYLOAD_TYPE:
            raise Refused(f"{where}: payload type", envelope.payload_type, PAYLOAD_TYPE)
        document = _statement(envelope.payload, where)
    except Refused:
        raise
    except UnfitInput as error:
        raise Refused(error.where, error.got, error.need, error.fix) from error
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
