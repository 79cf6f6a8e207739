"""Bytes of a delivered file, unpacked where it is compressed, never more than a limit."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from assay.config.ingest import Limits
from assay.errors import UnfitInput

GZIP = b"\x1f\x8b"

__all__ = ["require_size", "unpacked"]


def require_size(path: Path, limits: Limits) -> int:
    """The size of a file, or of all files of a folder, in bytes.

    Raises:
        UnfitInput: nothing there, no plain file, or above the limit.
    """
    if path.is_dir():
        sizes = (file.lstat().st_size for file in path.rglob("*"))
        return _within(path, sum(sizes), limits)
    if not path.is_file():
        raise UnfitInput(str(path), "no such file" if not path.exists() else "no plain file", "a file that can be read")
    return _within(path, path.stat().st_size, limits)


def unpacked(path: Path, limits: Limits) -> bytes:
    """The bytes of a file; of a gzip file, what it holds.

    Raises:
        UnfitInput: above the limit before or after unpacking, or a broken gzip file.
    """
    require_size(path, limits)
    try:
        with path.open("rb") as stream:
            if stream.read(2) != GZIP:
                stream.seek(0)
                return stream.read()
        with gzip.open(path) as stream:
            data = stream.read(limits.file_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UnfitInput(str(path), f"{type(error).__name__}: {error}", "a file that can be read whole") from error
    if len(data) > limits.file_bytes:
        raise UnfitInput(
            str(path),
            f"more than {limits.file_bytes} bytes unpacked",
            "less",
            "Raise ingest.limits.file_bytes, or split.",
        )
    return data


def _within(path: Path, size: int, limits: Limits) -> int:
    if size > limits.file_bytes:
        raise UnfitInput(str(path), f"{size} bytes", f"at most {limits.file_bytes} (ingest.limits.file_bytes)")
    return size
