"""Brings the files of a batch to this machine, named by their SHA-256, and chooses the reader."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from assay import canonical, catalog
from assay.config.ingest import Limits, SourceConfig
from assay.data.manifest import BatchShare
from assay.errors import UnfitInput
from assay.ingest.rows import Delivery, Reader
from assay.ingest.unpack import require_size
from assay.ledger import Ledger, put_document

FAMILY = "ingest.readers"

__all__ = ["Fetched", "bind", "fetched", "reader_of"]


@dataclass(frozen=True)
class Fetched:
    """A batch's files and what names them.

    Fields:
        source: as configured.
        delivery: the files on this machine.
        files: role (``data``, ``labels``), SHA-256 and size of each.
    """

    source: SourceConfig
    delivery: Delivery
    files: tuple[tuple[str, str, int], ...]

    @property
    def sha256(self) -> str:
        """Of the one file, or of the canonical JSON of role and SHA-256 of both."""
        digests = {role: digest for role, digest, _ in self.files}
        return digests["data"] if len(digests) == 1 else canonical.digest(digests)

    @property
    def share(self) -> BatchShare:
        """The batch's entry in a manifest, its records not yet counted."""
        return BatchShare(self.source.name, self.source.batch_name, self.sha256, 0, self.source.trust)

    def require_unchanged(self) -> None:
        """Refuse files that are no longer those that were named.

        Raises:
            UnfitInput: a file changed while it was read.
        """
        for (role, digest, _), path in zip(self.files, (self.delivery.path, self.delivery.labels), strict=False):
            if path is None or canonical.file_digest(path) != digest:
                raise UnfitInput(f"batch {self.delivery.name}", f"{role} that changed while read", "files at rest")

    def document(self) -> dict[str, object]:
        """What the ledger binds the batch's name to: the bytes that were delivered, wherever they lay."""
        return {
            "schema": "assay.batch/v1",
            "source": self.source.name,
            "batch": self.source.batch_name,
            "sha256": self.sha256,
            "files": [{"role": role, "sha256": digest, "bytes": size} for role, digest, size in self.files],
        }


@contextmanager
def fetched(source: SourceConfig, limits: Limits) -> Iterator[Fetched]:
    """The files of one batch for as long as the block lasts.

    Raises:
        UnfitInput: no such file, too large, or a URI of another kind.
        Unreachable: the object store does not answer.
    """
    name = f"{source.name}/{source.batch_name}"
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        paths = {"data": _local(source.uri, limits, Path(folder) / "data")}
        if source.labels_uri:
            paths["labels"] = _local(source.labels_uri, limits, Path(folder) / "labels")
        files = tuple((role, canonical.file_digest(path), require_size(path, limits)) for role, path in paths.items())
        yield Fetched(source, Delivery(name, paths["data"], paths.get("labels")), files)


def reader_of(uri: str) -> Reader:
    """The reader whose ending the URI has.

    Raises:
        UnfitInput: none has it.
    """
    name = uri.lower()
    known = {ending: member for member in catalog.names(FAMILY) for ending in catalog.member(FAMILY, member).endings}
    ending = max((ending for ending in known if name.endswith(ending)), key=len, default=None)
    if ending is None:
        raise UnfitInput(f"source {uri}", "an ending that no reader knows", f"one of {', '.join(sorted(known))}")
    reader: Reader = catalog.build(FAMILY, known[ending])
    return reader


def bind(ledger: Ledger, batches: list[Fetched]) -> None:
    """Bind the names of batches to their bytes.

    Raises:
        Conflict: a name is bound to other bytes.
    """
    for batch in batches:
        put_document(ledger, f"batches/{batch.delivery.name}.json", batch.document())


def _local(uri: str, limits: Limits, target: Path) -> Path:
    parts = urlsplit(uri)
    if parts.scheme == "s3":
        from assay.data.object_store import download

        return download(uri, target, limits.file_bytes)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
    elif "://" in uri:
        raise UnfitInput(f"source {uri}", f"{parts.scheme}://", "a path, file:// or s3://")
    else:
        path = Path(uri)
    require_size(path, limits)
    return path
