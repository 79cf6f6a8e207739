"""Signs a batch for whoever receives it: a statement about its source, name and bytes, beside the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from assay.config.base import parse
from assay.config.ingest import Limits, SourceConfig
from assay.data.files import write_file
from assay.errors import UnfitInput
from assay.ingest.fetch import ENVELOPE, batch_document, files_digest
from assay.ingest.unpack import require_size
from assay.keyring import load_signer, make_key
from assay.signing import seal, statement
from assay.workspace import Workspace

ROLES = ("data", "labels")

__all__ = ["sign_batch"]


def sign_batch(files: list[Path], *, source: str, batch: str, key: str, new_key: bool = False) -> dict[str, Any]:
    """Write ``FILE.dsse.json`` beside the first file; signing the same bytes again writes the same envelope.

    Args:
        files: the data, a file or a folder of images, and maybe the labels beside it.
        source: name of the source.
        batch: name of the batch.
        key: a path to a private PEM key, or a KMS URI.
        new_key: make an ed25519 key at that path when there is none.

    Returns:
        The document of ``assay sign-batch``; ``public`` is what the receiver lists under the source's keys.

    Raises:
        UnfitInput: no such file, more than two, names that cannot name a source or a batch, or no such key.
    """
    if not 1 <= len(files) <= len(ROLES):
        raise UnfitInput("sign-batch", f"{len(files)} files", "the data, and maybe its labels")
    config = parse(SourceConfig, {"name": source, "batch": batch, "uri": str(files[0])}, "sign-batch")
    listed = tuple(
        (role, files_digest(path), require_size(path, Limits(file_bytes=2**52)))
        for role, path in zip(ROLES, files, strict=False)
    )
    if new_key and not Path(key).exists():
        make_key(key, ("uploader",))
    signer = load_signer(key, Workspace.from_env().keyring)
    document = batch_document(config.name, config.batch_name, listed)
    sealed = seal(statement("batch", {role: digest for role, digest, _ in listed}, document), [signer])
    envelope = files[0].with_name(f"{files[0].name}{ENVELOPE}")
    write_file(envelope, sealed)
    public = signer.public_key
    return {
        "envelope": str(envelope),
        "batch": f"{config.name}/{config.batch_name}",
        "sha256": document["sha256"],
        "keyid": public.keyid,
        "public": _pem(public.to_dict()["keyval"]["public"]),
    }


def _pem(public: str) -> str:
    """A public key as PEM; securesystemslib writes those of ed25519 in hexadecimal."""
    if public.startswith("-----"):
        return public
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
