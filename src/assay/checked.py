"""One thing verified offline, with public keys only: envelope, proof, manifest, dataset, quarantine or model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assay import canonical
from assay.canonical import read_bytes
from assay.data.dataset import Dataset
from assay.data.layout import MANIFEST
from assay.data.manifest import Manifest
from assay.data.proof import read_proof
from assay.envelopes import open_any
from assay.errors import AssayError, Refused
from assay.evidence import payload_id
from assay.keyring import Keyring
from assay.models.spec import SPEC, read_spec, recorded_files
from assay.quarantine import PURGED, Quarantine
from assay.quarantine_seal import require_sealed
from assay.signing import MAX_ENVELOPE_BYTES, Opened, unseal

__all__ = [
    "Checked",
    "check_dataset",
    "check_envelope",
    "check_manifest",
    "check_model",
    "check_proof",
    "check_quarantine",
]


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


def check_envelope(path: Path, keyring: Keyring) -> Checked:
    """An envelope: the signature its kind asks for."""
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


def check_proof(path: Path) -> Checked:
    """A proof that a record is in the dataset it names."""
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


def check_manifest(path: Path) -> Checked:
    """A manifest of a ledger: its digest against its name."""
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


def check_dataset(path: Path) -> Checked:
    """A dataset folder: every byte against its manifest."""
    try:
        manifest = Dataset.load(path).manifest
    except AssayError as error:
        return Checked(str(path), "dataset", "", False, str(error), {})
    reason = f"{manifest.content.records} records agree with manifest {manifest.digest[:12]}"
    return Checked(str(path), "dataset", manifest.digest, True, reason, {})


def check_quarantine(path: Path, keyring: Keyring) -> Checked:
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


def check_model(path: Path) -> Checked:
    """A model folder: every byte against what it records."""
    try:
        read_spec(path)
        files = recorded_files(path)
    except AssayError as error:
        return Checked(str(path), "model", "", False, str(error), {})
    digest, names = canonical.tree_digest(files), {f"file/{name}": found for name, found in files.items()}
    return Checked(str(path), "model", digest, True, f"every byte agrees with {SPEC}; digest {digest[:12]}", names)
