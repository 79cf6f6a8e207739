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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from assay import canonical
from assay.checked import (
    Checked,
    check_dataset,
    check_envelope,
    check_manifest,
    check_model,
    check_proof,
    check_quarantine,
)
from assay.data.layout import MANIFEST
from assay.data.manifest import Manifest
from assay.errors import AssayError, UnfitInput
from assay.keyring import Keyring
from assay.models.spec import SPEC
from assay.quarantine_seal import REJECTED

MANIFESTS = "manifests"
ENVELOPE_START = b'{"payload"'
PROOF_START = b'{"block"'
_DIGEST_JSON = re.compile(r"[0-9a-f]{64}\.json")

__all__ = ["verify"]


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
    checked += [check_envelope(against, keyring)] if against is not None else []
    faults = [f"{one.path}: {one.reason}" for one in checked if not one.verified]
    faults += [*_strangers(checked, strict=against is not None), *_disagreements(checked), *_gaps(checked)]
    reason = faults[0] if faults else checked[0].reason if len(checked) == 1 else f"all {len(checked)} hold together"
    return {"verified": not faults, "reason": reason, "faults": faults, "checked": [asdict(one) for one in checked]}


def _each(path: Path, keyring: Keyring) -> Iterator[Checked]:
    if not path.is_dir():
        yield check_proof(path) if _is_proof(path) else check_envelope(path, keyring)
        return
    with os.scandir(path) as scanned:
        inside = {entry.name: entry for entry in scanned if not entry.is_symlink()}
    if MANIFEST in inside or REJECTED in inside:
        yield check_quarantine(path, keyring) if _is_quarantine(path) else check_dataset(path)
    elif SPEC in inside:
        yield check_model(path)
    else:
        for name, entry in sorted(inside.items()):
            if entry.is_dir(follow_symlinks=False):
                yield from _each(path / name, keyring)
            elif path.name == MANIFESTS and _DIGEST_JSON.fullmatch(name):
                yield check_manifest(path / name)
            elif entry.is_file(follow_symlinks=False) and _is_envelope(path / name):
                yield check_envelope(path / name, keyring)


def _is_envelope(path: Path) -> bool:
    """By its name, or by how canonical JSON of an envelope begins: KFP gives artifacts no ending."""
    if path.name.endswith(".dsse.json"):
        return True
    with path.open("rb") as stream:
        return stream.read(len(ENVELOPE_START)) == ENVELOPE_START


def _is_proof(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(PROOF_START)) == PROOF_START


def _is_quarantine(path: Path) -> bool:
    """By what its manifest says; one that cannot be read is a dataset, which is then said not to hold."""
    if not (path / MANIFEST).is_file():
        return True
    try:
        return Manifest.from_json(canonical.read(path / MANIFEST), str(path)).history.role == "quarantine"
    except AssayError:
        return False


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
