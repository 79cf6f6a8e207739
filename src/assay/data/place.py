"""A folder wherever it lies: on this machine, or in object storage and then fetched for as long as it is needed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from assay.errors import UnfitInput

__all__ = ["folder_at"]


@contextmanager
def folder_at(uri: str, where: str, limit: int) -> Iterator[Path]:
    """The folder behind a path, ``file://`` or ``s3://bucket/prefix``, while the block runs.

    Args:
        uri: of the folder.
        where: what the folder is, for errors.
        limit: bytes that are fetched at most.

    Raises:
        UnfitInput: a URI of another kind; in object storage nothing there, or more than the limit.
        Unreachable: the object store does not answer.
    """
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        from assay.data.object_store import download_folder

        with tempfile.TemporaryDirectory(prefix="assay-") as scratch:
            yield download_folder(uri.rstrip("/"), Path(scratch) / "folder", limit)
    elif scheme == "file":
        yield Path(unquote(urlsplit(uri).path))
    elif "://" in uri:
        raise UnfitInput(where, uri, "a path, file:// or s3://")
    else:
        yield Path(uri)
