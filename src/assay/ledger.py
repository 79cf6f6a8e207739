"""The ledger: a create-once store, and the truth. MLflow, KFP's metadata and artifact metadata are copies of it.

A name is bound once to bytes, for ever. Names in use:

    batches/<source>/<batch>.json           what a batch delivered
    manifests/<digest>.json                 every dataset
    records/<content digest>.parquet        batch and row of every record of a dataset
    findings/<sha256>.parquet               why records left a dataset
    models/<digest>.json, models/<digest>/* what a model is, and its files
    evidence/<evidence id>.dsse.json        decisions/<decision id>.dsse.json
    promotions/<model>@<alias>/<sequence>.dsse.json
    attempts/<hold-out>/<model>@<alias>/<number>.json   which evidence was measured on it, in order
    approvals/<evidence id>/<approval id>.dsse.json     who agrees that it goes to a target
    incidents/<incident id>.dsse.json       what an incident reached
    quarantines/<digest>.dsse.json          who set records aside, and why; by manifest, or by list of rejected batches
    purges/<digest>.dsse.json               a quarantine whose records were deleted, and why
    releases/<digest>.dsse.json             a release in spite of an open incident, and why
    runs/<run>/<step>-<digest>.json         what a step read and wrote

On a file system a name is created by a file without a name, fsync, a hard link to the name (which fails when somebody
else won) and an fsync of the folder: readers never meet half a file, and a kill leaves nothing behind.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from assay import canonical
from assay.data.files import TEMPORARY, create_file
from assay.errors import Conflict, UnfitInput

__all__ = ["FileLedger", "Ledger", "open_ledger", "put_document", "put_first", "put_folder"]

PIECE_BYTES = 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}(/[A-Za-z0-9][A-Za-z0-9._@-]{0,127})*")


class Ledger(Protocol):
    """What every ledger does; names are relative POSIX paths of plain segments."""

    def put(self, name: str, data: bytes) -> bool:
        """Bind a name to bytes: True when this call did, False when it was bound to the same bytes already.

        Raises:
            Conflict: the name is bound to other bytes.
        """
        ...

    def get(self, name: str) -> bytes:
        """The bytes of a name.

        Raises:
            UnfitInput: no such name.
        """
        ...

    def copy(self, name: str, path: Path) -> None:
        """Write the bytes of a name into a new file, piece by piece.

        Raises:
            UnfitInput: no such name.
        """
        ...

    def names(self, prefix: str = "") -> list[str]:
        """All names below a prefix that ends in ``/`` (or all), sorted."""
        ...


class FileLedger:
    """A ledger in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, data: bytes) -> bool:
        """Bind a name to bytes; see `Ledger.put`."""
        target = self._path(name)
        if self._bound(name, target, data):
            return False
        return create_file(target, data) or not self._bound(name, target, data)

    def get(self, name: str) -> bytes:
        """The bytes of a name; see `Ledger.get`."""
        try:
            return self._path(name).read_bytes()
        except OSError as error:
            raise UnfitInput(f"ledger {self.root}", f"no {name}", "a name that is in the ledger") from error

    def copy(self, name: str, path: Path) -> None:
        """Write the bytes of a name into a new file; see `Ledger.copy`."""
        try:
            with self._path(name).open("rb") as source, path.open("xb") as target:
                shutil.copyfileobj(source, target, PIECE_BYTES)
        except FileNotFoundError as error:
            raise UnfitInput(f"ledger {self.root}", f"no {name}", "a name that is in the ledger") from error

    def names(self, prefix: str = "") -> list[str]:
        """All names below a prefix; see `Ledger.names`."""
        base = self._path(prefix.rstrip("/")) if prefix else self.root
        return sorted(
            path.relative_to(self.root).as_posix()
            for path in base.rglob("*")
            if path.is_file() and not path.name.startswith(TEMPORARY)
        )

    def _path(self, name: str) -> Path:
        return self.root / require_ledger_name(name)

    def _bound(self, name: str, target: Path, data: bytes) -> bool:
        try:
            there = target.read_bytes()
        except FileNotFoundError:
            return False
        if there != data:
            raise Conflict(
                f"ledger {name}",
                f"other bytes (SHA-256 {canonical.sha256(data)[:12]})",
                f"those it is bound to for ever ({canonical.sha256(there)[:12]})",
                "Deliver changed data under a new name.",
            )
        return True


def require_ledger_name(name: str) -> str:
    """The name itself when it is a relative path of plain segments."""
    if not _NAME.fullmatch(name):
        raise UnfitInput("ledger name", repr(name), f"to match {_NAME.pattern}")
    return name


def open_ledger(uri: str) -> Ledger:
    """The ledger at ``file://``, a plain path, or ``s3://bucket/prefix``."""
    parts = urlsplit(uri)
    if parts.scheme == "s3":
        from assay.s3_ledger import S3Ledger

        return S3Ledger(uri)
    if parts.scheme not in ("", "file"):
        raise UnfitInput("ledger", repr(uri), "a path, file:// or s3://")
    return FileLedger(Path(unquote(parts.path) if parts.scheme else uri).absolute())


def put_first(ledger: Ledger, name: str, data: bytes) -> bytes:
    """Bind a name unless it is bound already; returns the bytes it is bound to.

    For envelopes named by an id that leaves out when and where they were made: the first one stands.
    """
    try:
        ledger.put(name, data)
    except Conflict:
        return ledger.get(name)
    return data


def put_document(ledger: Ledger, name: str, document: object) -> str:
    """Bind a name to the canonical JSON of a document; returns its SHA-256."""
    data = canonical.dumps(document)
    ledger.put(name, data)
    return canonical.sha256(data)


def put_folder(ledger: Ledger, prefix: str, folder: Path | str) -> dict[str, str]:
    """Bind every file of a folder below a prefix; returns names and SHA-256 as `canonical.tree_files`."""
    files = canonical.tree_files(folder)
    for name in files:
        ledger.put(f"{prefix}/{name}", (Path(folder) / name).read_bytes())
    return files
