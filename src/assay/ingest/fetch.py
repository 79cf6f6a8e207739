"""Brings the files of a batch to this machine, named by their SHA-256, and chooses the reader."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from assay import canonical, catalog
from assay.config.ingest import Limits, SourceConfig
from assay.data.manifest import BatchShare
from assay.errors import UnfitInput
from assay.ingest.rows import Delivery, Reader
from assay.ingest.unpack import require_size
from assay.ledger import Ledger, put_document
from assay.signing import MAX_ENVELOPE_BYTES

FAMILY = "ingest.readers"
ENVELOPE = ".dsse.json"

__all__ = [
    "ENVELOPE",
    "Fetched",
    "batch_document",
    "bind",
    "fetched",
    "files_digest",
    "local_path",
    "plain_uri",
    "reader_of",
]


@dataclass(frozen=True)
class Fetched:
    """A batch's files and what names them.

    Fields:
        source: as configured.
        delivery: the files on this machine.
        files: role (``data``, ``labels``), SHA-256 and size of each; of a folder the digest of its names and files.
        envelope: the signed statement beside the data, unverified, or None where there is none.
        uploader: id of the key that signed, once that is verified.
        versions: role and object version of the files that came from a bucket that keeps versions.
    """

    source: SourceConfig
    delivery: Delivery
    files: tuple[tuple[str, str, int], ...]
    envelope: bytes | None = None
    uploader: str = ""
    versions: tuple[tuple[str, str], ...] = ()

    @property
    def sha256(self) -> str:
        """The digest that names the batch in its manifest."""
        return _digest_of(self.files)

    @property
    def share(self) -> BatchShare:
        """The batch's entry in a manifest, its records not yet counted."""
        return BatchShare(self.source.name, self.source.batch_name, self.sha256, 0, self.source.trust, self.uploader)

    def require_unchanged(self) -> None:
        """Refuse files that are no longer those that were named.

        Raises:
            UnfitInput: a file changed while it was read.
        """
        for (role, digest, _), path in zip(self.files, (self.delivery.path, self.delivery.labels), strict=False):
            if path is None or files_digest(path) != digest:
                raise UnfitInput(f"batch {self.delivery.name}", f"{role} that changed while read", "files at rest")

    def document(self) -> dict[str, Any]:
        """What the ledger binds the batch's name to: the bytes that were delivered, wherever they lay."""
        return batch_document(self.source.name, self.source.batch_name, self.files)


def batch_document(source: str, batch: str, files: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
    """What names a batch: its source, its name and the role, SHA-256 and size of each of its files."""
    return {
        "schema": "assay.batch/v1",
        "source": source,
        "batch": batch,
        "sha256": _digest_of(files),
        "files": [{"role": role, "sha256": digest, "bytes": size} for role, digest, size in files],
    }


def _digest_of(files: Sequence[tuple[str, str, int]]) -> str:
    """Of the one file, or of the canonical JSON of role and SHA-256 of both."""
    digests = {role: digest for role, digest, _ in files}
    return digests["data"] if len(digests) == 1 else canonical.digest(digests)


def files_digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and files of a folder."""
    return canonical.tree_digest(canonical.tree_files(path)) if path.is_dir() else canonical.file_digest(path)


@contextmanager
def fetched(source: SourceConfig, limits: Limits) -> Iterator[Fetched]:
    """The files of one batch for as long as the block lasts.

    Raises:
        UnfitInput: no such file, too large, or a URI of another kind.
        Unreachable: the object store does not answer.
    """
    name = f"{source.name}/{source.batch_name}"
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        given = {"data": source.uri} | ({"labels": source.labels_uri} if source.labels_uri else {})
        here = {role: _local(uri, limits, Path(folder) / role) for role, uri in given.items()}
        paths = {role: path for role, (path, _) in here.items()}
        versions = tuple((role, version) for role, (_, version) in here.items() if version)
        files = tuple((role, files_digest(path), require_size(path, limits)) for role, path in paths.items())
        envelope = _envelope(source.uri, Path(folder) / "envelope")
        yield Fetched(source, Delivery(name, paths["data"], paths.get("labels")), files, envelope, versions=versions)


def reader_of(uri: str) -> Reader:
    """The reader whose ending the URI has.

    Raises:
        UnfitInput: none has it.
    """
    name = plain_uri(uri).lower()
    known = {ending: member for member in catalog.names(FAMILY) for ending in catalog.member(FAMILY, member).endings}
    ending = max((ending for ending in known if name.endswith(ending)), key=len, default=None)
    if ending is None:
        fix = f"Of a folder of images the name ends in a slash: {uri}/." if Path(uri).is_dir() else ""
        raise UnfitInput(f"source {uri}", "an ending that no reader knows", f"one of {', '.join(sorted(known))}", fix)
    reader: Reader = catalog.build(FAMILY, known[ending])
    return reader


def bind(ledger: Ledger, batches: Sequence[Fetched]) -> None:
    """Bind the names of batches to their bytes.

    Raises:
        Conflict: a name is bound to other bytes.
    """
    for batch in batches:
        put_document(ledger, f"batches/{batch.delivery.name}.json", batch.document())


def _envelope(uri: str, target: Path) -> bytes | None:
    """The envelope beside a batch, or None where there is none."""
    place = f"{plain_uri(uri).rstrip('/')}{ENVELOPE}"
    if urlsplit(place).scheme == "s3":
        from assay.data.object_store import download, exists

        return download(place, target, MAX_ENVELOPE_BYTES).read_bytes() if exists(place) else None
    path = local_path(place)
    return canonical.read_bytes(path, MAX_ENVELOPE_BYTES) if path.exists() else None


def plain_uri(uri: str) -> str:
    """A URI without the object version that it may pin."""
    return uri.partition("?versionId=")[0] if uri.lower().startswith("s3:") else uri


def _local(uri: str, limits: Limits, target: Path) -> tuple[Path, str]:
    """Where a file lies on this machine, and its version in an object store, or an empty text."""
    if urlsplit(uri).scheme == "s3":
        from assay.data.object_store import download_folder, fetch

        if uri.endswith("/"):
            return download_folder(uri, target, limits.file_bytes), ""
        return target, fetch(uri, target, limits.file_bytes)
    path = local_path(uri)
    require_size(path, limits)
    return path, ""


def local_path(uri: str) -> Path:
    """The path behind a path or ``file://``.

    Raises:
        UnfitInput: a URI of another kind.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if "://" in uri:
        raise UnfitInput(f"source {uri}", f"{parts.scheme}://", "a path, file:// or s3://")
    return Path(uri)
