"""Envelopes of any kind: whose signature each kind asks for, and the one that is in some bytes."""

from __future__ import annotations

import re

from assay.errors import Refused
from assay.keyring import Keyring, Role
from assay.signing import Opened, payload_of, unseal

ROLES: dict[str, tuple[Role, ...]] = {
    "evidence": ("evaluator",),
    "decision": ("evaluator",),
    "promotion": ("promoter",),
    "approval": ("approver",),
    "batch": ("uploader",),
    "quarantine": ("custodian", "evaluator", "promoter", "approver"),
    "incident": ("evaluator", "promoter", "approver"),
    "shard": ("evaluator",),
}
_PREDICATE = re.compile(rb'"predicateType"\s*:\s*"urn:assay:([a-z]{1,20}):v1"')

__all__ = ["ROLES", "open_any"]


def open_any(data: bytes, keyring: Keyring, where: str) -> tuple[str, Opened]:
    """The kind of an envelope and its verified statement, whatever kind it is.

    Raises:
        Refused: no valid signature of a key with a role its kind asks for, or an unknown kind.
        UnfitInput: no envelope.
    """
    said = _PREDICATE.findall(payload_of(data, where))
    kind = said[-1].decode() if said else ""  # a guess, to choose the role by; unseal asks what the statement is
    if kind not in ROLES:
        raise Refused(f"{where}: predicate type", repr(kind), f"one of {', '.join(ROLES)}")
    *others, last = ROLES[kind]
    for role in others:
        try:
            return kind, unseal(data, keyring, kind=kind, role=role, where=where)
        except Refused:
            continue
    return kind, unseal(data, keyring, kind=kind, role=last, where=where)
