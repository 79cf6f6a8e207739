"""The signature over a quarantine: who set records aside, for which reasons, and that neither changed since.

The statement names the manifest, which binds the records, and every other file of the folder by its SHA-256: findings,
rows kept raw, rejected batches and what was fetched of them. The envelope is in the ledger before the folder has its
name, so the same quarantine written again is the same bytes, whatever a key service draws when it signs.
"""

from __future__ import annotations

from pathlib import Path

from assay import canonical
from assay.data.manifest import Manifest
from assay.errors import Conflict, Refused, UnfitInput
from assay.keyring import Keyring, Role
from assay.ledger import put_first
from assay.signing import MAX_ENVELOPE_BYTES, Opened, payload_of, seal, statement, unseal
from assay.workspace import Workspace

KIND = "quarantine"
ROLE: Role = "custodian"  # of its own: the steps that read what suppliers send must not hold a key that signs evidence
SIGNATURE = "quarantine.dsse.json"
REJECTED, ASIDE = "rejected.jsonl", "rejected"
MANIFEST = "manifest.json"
UNNAMED = (SIGNATURE, "files.json", "purged.dsse.json")

__all__ = ["ASIDE", "KIND", "REJECTED", "SIGNATURE", "require_sealed", "seal_quarantine"]


def seal_quarantine(folder: Path, workspace: Workspace) -> None:
    """Sign a quarantine folder that is written but for its list of files; without a key nothing is written.

    Args:
        folder: with ``manifest.json``, or with ``rejected.jsonl`` alone where no batch came in.
        workspace: whose custodian's key signs, and whose ledger keeps the envelope.

    Raises:
        Conflict: the ledger has a statement of other files under this manifest.
        Unreachable: a key service that does not sign.
    """
    signers = workspace.signers(ROLE)
    if not signers:
        return
    named = _subjects(folder)
    predicate = {"action": "hold", **_facts(folder)}
    sealed = seal(statement(KIND, named, predicate), signers)
    name = f"quarantines/{named.get('dataset') or named[f'file/{REJECTED}']}.dsse.json"
    first = put_first(workspace.ledger, name, sealed)
    if payload_of(first, name) != payload_of(sealed, name):
        raise Conflict(f"ledger {name}", "a statement of other files", "the one of this quarantine")
    (folder / SIGNATURE).write_bytes(first)


def require_sealed(folder: Path, keyring: Keyring) -> Opened:
    """The verified statement of a quarantine folder, when it names exactly the files that are there.

    The records are for the caller to check against the manifest.

    Raises:
        Refused: no signature of a custodian's key, or another file than it names.
    """
    path = folder / SIGNATURE
    if not path.is_file():
        raise Refused(str(folder), f"no {SIGNATURE}", f"a quarantine signed by a key of role {ROLE}")
    data = canonical.read_bytes(path, MAX_ENVELOPE_BYTES)
    opened = unseal(data, keyring, kind=KIND, role=ROLE, where=str(path))
    if opened.predicate.get("action") != "hold":
        raise Refused(str(path), f"a statement of {opened.predicate.get('action')!r}", "one of a quarantine held")
    try:
        named = {entry["name"]: entry["digest"]["sha256"] for entry in opened.statement["subject"]}
    except (KeyError, TypeError) as error:
        raise Refused(f"{path}: subject", f"{type(error).__name__}: {error}", "names with a SHA-256") from error
    there = _subjects(folder)
    for name in sorted(named.keys() | there.keys()):
        if named.get(name) != there.get(name):
            got = f"SHA-256 {there[name][:12]}" if name in there else "no such file"
            need = f"{str(named[name])[:12]}, which is signed" if name in named else "no file that is not signed"
            raise Refused(f"{folder}: {name.partition('/')[2] or name}", got, need)
    return opened


def _subjects(folder: Path) -> dict[str, str]:
    """SHA-256 of everything but the records, which the manifest binds: one for each file, one for all of ``rejected``.

    Whoever rejects a folder of images would else sign a statement longer than an envelope may be.
    """
    files = canonical.tree_files(folder)
    aside = {name: files.pop(name) for name in list(files) if name.startswith(f"{ASIDE}/")}
    manifest = files.pop(MANIFEST, "")
    if not manifest and REJECTED not in files:
        raise UnfitInput(str(folder), "neither manifest nor rejected batches", "a quarantine")
    named = {
        f"file/{name}": digest for name, digest in files.items() if not name.startswith("data/") and name not in UNNAMED
    }
    named |= {f"folder/{ASIDE}": canonical.tree_digest(aside)} if aside else {}
    return named | ({"dataset": manifest} if manifest else {})


def _facts(folder: Path) -> dict[str, object]:
    if not (folder / MANIFEST).is_file():
        return {"step": "ingest", "records": 0}
    manifest = Manifest.from_json(canonical.read(folder / MANIFEST), str(folder))
    return {"step": manifest.history.step, "records": manifest.content.records}
