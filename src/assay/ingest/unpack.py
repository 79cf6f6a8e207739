"""Bytes of a delivered file, unpacked where it is compressed, never more than a limit."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from assay.config.ingest import Limits
from assay.errors import UnfitInput

GZIP = b"\x1f\x8b"
Read = Callable[[int], bytes]

__all__ = ["Read", "opened", "require_size", "unpacked"]


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


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[Read]:
    """What reads the next so many bytes of a file; of a gzip file, of what it holds.

    Raises:
        UnfitInput: above the limit before or after unpacking, or, when it reads, a broken gzip file.
    """
    require_size(path, limits)
    with ExitStack() as files:
        try:
            stream: IO[bytes] = files.enter_context(path.open("rb"))
            packed = stream.read(2) == GZIP
            stream.seek(0)
            if packed:
                stream = files.enter_context(gzip.open(stream))  # type: ignore[arg-type]
        except OSError as error:
            raise _broken(path, error) from error
        left = limits.file_bytes

        def read(size: int) -> bytes:
            nonlocal left
            try:
                data = stream.read(min(size, left + 1))
            except (OSError, EOFError, zlib.error) as error:
                raise _broken(path, error) from error
            left -= len(data)
            if left < 0:
                need, fix = "less", "Raise ingest.limits.file_bytes, or split."
                raise UnfitInput(str(path), f"more than {limits.file_bytes} bytes unpacked", need, fix)
            return data

        yield read


def unpacked(path: Path, limits: Limits) -> bytes:
    """The bytes of a file; of a gzip file, what it holds; see `opened`."""
    with opened(path, limits) as read:
        return read(limits.file_bytes + 1)


def _broken(path: Path, error: Exception) -> UnfitInput:
    return UnfitInput(str(path), f"{type(error).__name__}: {error}", "a file that can be read whole")


def _within(path: Path, size: int, limits: Limits) -> int:
    if size > limits.file_bytes:
        raise UnfitInput(str(path), f"{size} bytes", f"at most {limits.file_bytes} (ingest.limits.file_bytes)")
    return size
