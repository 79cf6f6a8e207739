"""The ledger that lies at ``s3://bucket/prefix``; endpoint and patience are those of `assay.data.object_store`."""

from __future__ import annotations

import functools
from pathlib import Path

from botocore.exceptions import ClientError

from assay import canonical
from assay.data import object_store
from assay.data.object_store import again, client, download, split_uri, status_of, translated
from assay.errors import Conflict, UnfitInput
from assay.ledger import require_ledger_name

MAX_COPY_BYTES = 2**40
TAKEN = 412  # Precondition Failed
PROBE = ".create-once"

__all__ = ["S3Ledger"]


class S3Ledger:
    """A ledger in a bucket: a name is created by a conditional put, which the store refuses when the name is taken.

    A lost answer to a put that did happen reads as "was bound already" when it is asked again.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.bucket, prefix = split_uri(uri)
        self.prefix = f"{prefix}/" if prefix else ""
        self._client = client()
        self._proven = False

    def put(self, name: str, data: bytes) -> bool:
        """Bind a name to bytes; see `Ledger.put`."""
        key = self._key(name)
        self._prove()
        if self._create(key, data):
            return True
        there = self.get(name)
        if there != data:
            raise Conflict(
                f"ledger {name}",
                f"other bytes (SHA-256 {canonical.sha256(data)[:12]})",
                f"those it is bound to for ever ({canonical.sha256(there)[:12]})",
                "Deliver changed data under a new name.",
            )
        return False

    def get(self, name: str) -> bytes:
        """The bytes of a name; see `Ledger.get`."""
        key = self._key(name)
        with translated(f"ledger {self.uri}: {name}"):
            return again(lambda: self._read(key))

    def copy(self, name: str, path: Path) -> None:
        """Write the bytes of a name into a new file; see `Ledger.copy`."""
        download(f"s3://{self.bucket}/{self._key(name)}", path, MAX_COPY_BYTES)

    def names(self, prefix: str = "") -> list[str]:
        """All names below a prefix; see `Ledger.names`."""
        below = f"{self._key(prefix.rstrip('/'))}/" if prefix else self.prefix
        with translated(f"ledger {self.uri}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=below, PaginationConfig={"PageSize": object_store.PAGE_NAMES}
            )
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return sorted(name for key in keys if not (name := key.removeprefix(self.prefix)).startswith("."))

    def _key(self, name: str) -> str:
        return self.prefix + require_ledger_name(name)

    def _read(self, key: str) -> bytes:
        answer = self._client.get_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        return bytes(answer["Body"].read())

    def _create(self, key: str, data: bytes) -> bool:
        """Whether this call bound the key; False when it is taken."""
        put = functools.partial(
            self._client.put_object, Bucket=self.bucket, Key=key, Body=data, IfNoneMatch="*", ChecksumAlgorithm="SHA256"
        )
        with translated(f"ledger {self.uri}"):
            try:
                again(put)
            except ClientError as error:
                if status_of(error) == TAKEN:
                    return False
                raise
        return True

    def _prove(self) -> None:
        """On first use: a second conditional put of one key must be refused, or nothing here is create-once."""
        if self._proven:
            return
        key = f"{self.prefix}{PROBE}"
        if self._create(key, b"") and self._create(key, b""):
            raise UnfitInput(
                f"ledger {self.uri}",
                "a store that accepts a second conditional put of one key",
                "one that enforces If-None-Match: *",
                "The store does not enforce create-once; keep the ledger on one that does, or in a folder.",
            )
        self._proven = True
