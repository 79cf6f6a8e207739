"""What the incidents of a ledger name: models, batches and records that nothing may be made of any more.

An incident counts whoever signed it, even where the signature cannot be verified here: whoever can write into the
ledger can stop a promotion, but nobody can let a poisoned model through by taking a key away. It ends when the key list
revokes its payload, which is a decision of those who keep that list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assay import canonical
from assay.ledger import Ledger
from assay.signing import Keyring, peek

KINDS = ("model", "batch", "record")

__all__ = ["KINDS", "Named", "named", "subject"]


@dataclass(frozen=True)
class Named:
    """What the incidents name, each with the id of one incident that does.

    Fields:
        models: by digest.
        batches: by ``<source>/<batch>``.
        records: by record id.
    """

    models: Mapping[str, str]
    batches: Mapping[str, str]
    records: Mapping[str, str]


def subject(kind: str, name: str) -> str:
    """How an incident's statement names a subject, such as ``batch/vendor-c/2026-10``."""
    return f"{kind}/{name}"


def named(ledger: Ledger, keyring: Keyring) -> Named:
    """Read every incident of the ledger that is not revoked.

    Raises:
        UnfitInput: an incident that cannot be read; what it names is not known, so nothing may go on.
        Unreachable: the ledger does not answer.
    """
    found: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for name in ledger.names("incidents/"):
        document = peek(ledger.get(name), name)
        if canonical.digest(document) in keyring.revoked:
            continue
        incident = name.removeprefix("incidents/").partition(".")[0]
        for entry in document["subject"]:
            kind, _, what = entry["name"].partition("/")
            if kind in found:
                found[kind].setdefault(what, incident)
    return Named(found["model"], found["batch"], found["record"])
