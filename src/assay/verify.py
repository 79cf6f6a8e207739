"""Verification by anybody, offline, with public keys only: one file, one folder, or a whole bundle.

    an envelope (``*.dsse.json``)   the signature of a key with the role its kind asks for
    a proof of ``verify record:``    that a record is in the dataset it names
    a dataset folder                every byte against its manifest
    a quarantine folder             that, and an evaluator's signature over records, reasons, rejected batches
    a manifest in ``manifests/``    its digest against its name
    a model folder                  every byte against ``model.json``
    any other folder                everything of these kinds below it, and that they speak of each other

The validity of keys in time, expiry and targets are checked where they decide: by gate, promote and the server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from assay import canonical
from assay.canonical import read_bytes
from assay.data.dataset import Dataset
from assay.data.manifest import Manifest
from assay.data.proof import read_proof
from assay.errors import AssayError, Refused, UnfitInput
from assay.evidence import payload_id
from assay.keyring import Keyring, Role
from assay.models.spec import SPEC, read_spec, recorded_files
from assay.quarantine import PURGED, Quarantine
from assay.quarantine_seal import REJECTED, require_sealed
from assay.signing import MAX_ENVELOPE_BYTES, Opened, payload_of, unseal

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
MANIFEST, MANIFESTS = "manifest.json", "manifests"
ENVELOPE_START = b'{"payload"'
PROOF_START = b'{"block"'
_PREDICATE = re.compile(rb'"predicateType"\s*:\s*"urn:assay:([a-z]{1,20}):v1"')
_DIGEST_JSON = re.compile(r"[0-9a-f]{64}\.json")

__all__ = ["Checked", "open_any", "verify"]


@dataclass(frozen=True)
class Checked:
    """One thing that was verified, or not.

    Fields:
        path: of it.
        kind: ``evidence``, ``decision``, ``promotion``, ..., ``dataset``, ``model``.
        id: the id of a statement, the digest of a dataset or model; empty where it could not be read.
        verified: whether it holds.
        reason: why, in one sentence.
        names: what its statement speaks of, name to SHA-256; the files of a model, the parents of a manifest.
        target: ``<model>@<alias>`` of a decision or promotion.
    """

    path: str
    kind: str
    id: str
    verified: bool
    reason: str
    names: dict[str, str]
    target: str = ""


def verify(path: Path, keyring: Keyring, *, against: Path | None = None) -> dict[str, Any]:
    """Verify whatever is at a path.

    Args:
        path: a file or folder.
        keyring: the public keys to trust.
        against: an envelope that has to speak of the model or dataset at ``path``, such as its promotion.

    Returns:
        ``verified``, ``reason``, and ``checked``: one entry each, the fields of `Checked`.

    Raises:
        UnfitInput: there is nothing at the path, or nothing that could be verified.
    """
    if not path.exists():
        raise UnfitInput(str(path), "no such file or folder", "an envelope, a dataset, a model or a folder of them")
    checked = list(_each(path, keyring))
    if not checked:
        raise UnfitInput(
            str(path), "nothing that can be verified", "an envelope, a dataset, a model, or a folder of them"
        )
    checked += [_envelope(against, keyring)] if against is not None else []
    faults = [f"{one.path}: {one.reason}" for one in checked if not one.verified]
    faults += [*_strangers(checked, strict=against is not None), *_disagreements(checked), *_gaps(checked)]
    reason = faults[0] if faults else checked[0].reason if len(checked) == 1 else f"all {len(checked)} hold together"
    return {"verified": not faults, "reason": reason, "faults": faults, "checked": [asdict(one) for one in checked]}


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


def _each(path: Path, keyring: Keyring) -> Iterator[Checked]:
    if not path.is_dir():
        yield _proof(path) if _is_proof(path) else _envelope(path, keyring)
        return
    with os.scandir(path) as scanned:
        inside = {entry.name: entry for entry in scanned if not entry.is_symlink()}
    if MANIFEST in inside or REJECTED in inside:
        yield _quarantine(path, keyring) if _is_quarantine(path) else _dataset(path)
    elif SPEC in inside:
        yield _model(path)
    else:
        for name, entry in sorted(inside.items()):
            if entry.is_dir(follow_symlinks=False):
                yield from _each(path / name, keyring)
            elif path.name == MANIFESTS and _DIGEST_JSON.fullmatch(name):
                yield _manifest(path / name)
            elif entry.is_file(follow_symlinks=False) and _is_envelope(path / name):
                yield _envelope(path / name, keyring)


def _is_envelope(path: Path) -> bool:
    """By its name, or by how canonical JSON of an envelope begins: KFP gives artifacts no ending."""
    if path.name.endswith(".dsse.json"):
        return True
    with path.open("rb") as stream:
        return stream.read(len(ENVELOPE_START)) == ENVELOPE_START


def _envelope(path: Path, keyring: Keyring) -> Checked:
    try:
        kind, opened = open_any(read_bytes(path, MAX_ENVELOPE_BYTES), keyring, str(path))
        names = {entry["name"]: entry["digest"]["sha256"] for entry in opened.statement["subject"]}
        if kind == "decision":
            _require_own_policy(opened, names, str(path))
        about = f"{kind} signed by {', '.join(key[:8] for key in opened.keyids)} (assurance {opened.assurance})"
        return Checked(str(path), kind, payload_id(opened.statement), True, about, names, _target(opened))
    except AssayError as error:
        return Checked(str(path), "envelope", "", False, str(error), {})
    except (KeyError, TypeError) as error:
        return Checked(str(path), "envelope", "", False, f"subject: {type(error).__name__}: {error}", {})


def _is_proof(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(PROOF_START)) == PROOF_START


def _proof(path: Path) -> Checked:
    try:
        shown = read_proof(path).verify()
    except AssayError as error:
        return Checked(str(path), "proof", "", False, str(error), {})
    digest = shown["dataset"]["digest"]
    reason = f"{shown['record']} is in dataset {digest}; compare that digest with one you trust"
    return Checked(str(path), "proof", digest, True, reason, {})


def _require_own_policy(opened: Opened, names: dict[str, str], where: str) -> None:
    got = canonical.digest(opened.predicate.get("policy"))
    if got != names.get("policy"):
        raise Refused(f"{where}: policy", f"digest {got[:12]}", f"{names.get('policy', 'none')[:12]}, which it names")


def _target(opened: Opened) -> str:
    target = opened.predicate.get("target")
    return f"{target.get('model')}@{target.get('alias')}" if isinstance(target, dict) else ""


def _manifest(path: Path) -> Checked:
    try:
        data = read_bytes(path)
        if canonical.sha256(data) != path.stem:
            raise Refused(str(path), f"SHA-256 {canonical.sha256(data)[:12]}", "the one its name says")
        manifest = Manifest.from_json(canonical.loads(data, str(path)), str(path))
    except AssayError as error:
        return Checked(str(path), "manifest", "", False, str(error), {})
    parents = {f"parent/{digest}": digest for digest in manifest.history.parents}
    reason = f"manifest of {manifest.content.records} records, made by {manifest.history.step}"
    return Checked(str(path), "manifest", path.stem, True, reason, parents)


def _dataset(path: Path) -> Checked:
    try:
        manifest = Dataset.load(path).manifest
    except AssayError as error:
        return Checked(str(path), "dataset", "", False, str(error), {})
    reason = f"{manifest.content.records} records agree with manifest {manifest.digest[:12]}"
    return Checked(str(path), "dataset", manifest.digest, True, reason, {})


def _is_quarantine(path: Path) -> bool:
    """By what its manifest says; one that cannot be read is a dataset, which is then said not to hold."""
    if not (path / MANIFEST).is_file():
        return True
    try:
        return Manifest.from_json(canonical.read(path / MANIFEST), str(path)).history.role == "quarantine"
    except AssayError:
        return False


def _quarantine(path: Path, keyring: Keyring) -> Checked:
    """A quarantine as `assay.quarantine_seal` signed it, or what a purge left of one."""
    digest = ""
    try:
        if (path / PURGED).is_file():
            opened = unseal(read_bytes(path / PURGED, MAX_ENVELOPE_BYTES), keyring, kind="quarantine", role="evaluator")
            digest = canonical.file_digest(path / MANIFEST)
            named = {entry["name"]: entry["digest"]["sha256"] for entry in opened.statement["subject"]}
            if opened.predicate.get("action") != "purge" or named.get("dataset") != digest:
                raise Refused(f"{path}: {PURGED}", "a statement of something else", "the purge of this quarantine")
            return Checked(str(path), "dataset", digest, True, "its records were purged, as was signed", {})
        records = 0
        if (path / MANIFEST).is_file():
            held = Quarantine.load(path)
            records, digest = len(held.dataset), held.dataset.manifest.digest
        opened = require_sealed(path, keyring)
    except AssayError as error:
        return Checked(str(path), "dataset", digest, False, str(error), {})
    except (KeyError, TypeError) as error:
        return Checked(str(path), "dataset", digest, False, f"subject: {type(error).__name__}: {error}", {})
    by = f"signed by {', '.join(key[:8] for key in opened.keyids)} (assurance {opened.assurance})"
    return Checked(str(path), "dataset", digest, True, f"quarantine of {records} records {by}", {})


def _model(path: Path) -> Checked:
    try:
        read_spec(path)
        files = recorded_files(path)
    except AssayError as error:
        return Checked(str(path), "model", "", False, str(error), {})
    digest, names = canonical.tree_digest(files), {f"file/{name}": found for name, found in files.items()}
    return Checked(str(path), "model", digest, True, f"every byte agrees with {SPEC}; digest {digest[:12]}", names)


def _strangers(checked: list[Checked], strict: bool) -> Iterator[str]:
    """Statements that name another model or evidence than the ones beside them.

    In a bundle a statement about something that is not there is fine; one about something of a kind of which only
    others are there is not. ``strict`` asks too that something speaks of every model and dataset.
    """
    there = {kind: {one.id for one in checked if one.kind == kind} for kind in ("model", "evidence", "decision")}
    for one in checked:
        for name, present in there.items():
            named = one.names.get(name)
            if named is not None and present and named not in present:
                differs = f": {_differing_files(one, checked)}" if name == "model" else ""
                yield f"{one.path}: it speaks of {name} {named[:12]}, which is not the one here{differs}"
    spoken = {digest for one in checked for digest in one.names.values()}
    for one in checked:
        if strict and one.kind in ("model", "dataset") and one.verified and one.id not in spoken:
            yield f"{one.path}: {one.kind} {one.id[:12]}, of which no statement speaks"


def _differing_files(statement: Checked, checked: list[Checked]) -> str:
    """Which files of the models here are not those a promotion names; a statement that names none says so."""
    files = {name: digest for name, digest in statement.names.items() if name.startswith("file/")}
    here = {item for one in checked if one.kind == "model" for item in one.names.items()}
    differing = [name.removeprefix("file/") for name, digest in sorted(files.items()) if (name, digest) not in here]
    return f"another {', '.join(differing)}" if differing else "it names no files"


def _disagreements(checked: list[Checked]) -> Iterator[str]:
    """A statement and one that it rests on, naming different data, models, policies or targets."""
    by_id = {one.id: one for one in checked if one.kind in ("decision", "evidence")}
    for one in checked:
        for other in (by_id[one.names[kind]] for kind in ("decision", "evidence") if one.names.get(kind) in by_id):
            for name in sorted(one.names.keys() & other.names.keys()):
                if one.names[name] != other.names[name]:
                    yield f"{one.path}: {name} {one.names[name][:12]}, but {other.path} says {other.names[name][:12]}"
            if one.target and other.target and one.target != other.target:
                yield f"{one.path}: target {one.target}, but {other.path} says {other.target}"


def _gaps(checked: list[Checked]) -> Iterator[str]:
    """Where manifests are kept, the chain is whole: all that statements and manifests name is here."""
    here = {one.id for one in checked if one.kind in ("manifest", "dataset")}
    if not any(one.kind == "manifest" for one in checked):
        return
    for one in checked:
        for name, digest in one.names.items():
            if (name in ("dataset", "holdout") or name.startswith("parent/")) and digest and digest not in here:
                yield f"{one.path}: {name.partition('/')[0]} {digest[:12]}, of which no manifest is here"
