"""The end of a quarantine: its records are deleted for good, and a signed statement says so.

Assay itself deletes nothing. This is for a person who must, such as by law or contract: the manifest, the reasons and
the statement stay, the records and raw rows go. The statement is in the ledger before the first byte goes, so an
interrupted purge is finished by the same command, and none goes unrecorded.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assay import canonical
from assay.data.files import write_file
from assay.data.manifest import Manifest
from assay.errors import Refused, UnfitInput
from assay.keyring import Keyring
from assay.ledger import Ledger, put_first
from assay.quarantine import PURGED, Quarantine
from assay.signing import seal, statement, unseal
from assay.workspace import Workspace

KIND = "quarantine"
GONE = ("data", "rejected", "raw.jsonl", "rejected.jsonl", "files.json")

__all__ = ["KIND", "purge"]


def purge(path: Path, workspace: Workspace, *, reason: str, apply: bool = False) -> dict[str, Any]:
    """Say what a purge would delete; with ``apply`` record it and delete it.

    Args:
        path: folder of a quarantine, every byte of which is checked first.
        workspace: whose ledger and evaluator's key.
        reason: why; part of the statement.
        apply: delete.

    Returns:
        ``digest`` of the manifest, ``records``, ``raw``, ``reasons``, ``purged`` and ``statement``, a ledger name.

    Raises:
        UnfitInput: no quarantine, no reason, or no evaluator's key.
        Refused: a statement of the ledger that does not verify.
    """
    digest = Manifest.from_json(canonical.read(path / "manifest.json"), str(path)).digest
    name = f"purges/{digest}.dsse.json"
    recorded = name in workspace.ledger.names("purges/")
    facts = _recorded(name, workspace.ledger, workspace.keyring) if recorded else _held(path)
    if apply:
        if not recorded:
            facts = _record(name, digest, facts, reason, workspace)
        write_file(path / PURGED, workspace.ledger.get(name))
        _delete(path)
    return {"digest": digest, **facts, "purged": apply, "statement": name if apply else ""}


def _held(path: Path) -> dict[str, Any]:
    held = Quarantine.load(path)
    reasons = sorted({finding.reason for finding in held.removing})
    return {"records": len(held.dataset), "raw": len(held.raw), "reasons": reasons}


def _recorded(name: str, ledger: Ledger, keyring: Keyring) -> dict[str, Any]:
    said = unseal(ledger.get(name), keyring, kind=KIND, role="evaluator", where=name).predicate
    if said.get("action") != "purge":
        raise Refused(name, f"a statement of {said.get('action')!r}", "one of a purge")
    return {part: said[part] for part in ("records", "raw", "reasons")}


def _record(name: str, digest: str, facts: dict[str, Any], reason: str, workspace: Workspace) -> dict[str, Any]:
    if not reason.strip():
        raise UnfitInput("purge: reason", "none", "why these records are deleted", "Give --reason.")
    signers = workspace.signers("evaluator")
    if not signers:
        raise UnfitInput("key of role evaluator", "none", "one to sign the purge", "assay init makes one.")
    predicate = {**facts, "action": "purge", "reason": reason, "run": {"written_at": datetime.now(UTC).isoformat()}}
    put_first(workspace.ledger, name, seal(statement(KIND, {"dataset": digest}, predicate), signers))
    return _recorded(name, workspace.ledger, workspace.keyring)


def _delete(path: Path) -> None:
    for name in GONE:
        place = path / name
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
