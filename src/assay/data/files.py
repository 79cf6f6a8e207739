"""Files and folders that appear whole, by rename, or not at all."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from assay import canonical
from assay.errors import AssayError, UnfitInput

__all__ = ["create_file", "fsync_folder", "require_places", "temporary_folder", "whole_folder", "write_file"]

TEMPORARY = ".assay-tmp-"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SHOWN = 3  # names of what is in a folder that is taken


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def create_file(path: Path | str, data: bytes, mode: int = 0o644) -> bool:
    """Create a file whole; False, with nothing changed, where the name is taken: of several creators one wins.

    The bytes go into a file that has no name yet, and then gets one, so a kill leaves nothing behind. A file system
    without such files, like NFS, gets a temporary one in the same folder.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _link_unnamed(folder, target.name, data, mode)
    except FileExistsError:
        return False
    except (AttributeError, OSError):  # no O_TMPFILE, or none on this file system; what else is wrong shows again
        if not _link_temporary(target, data, mode):
            return False
    finally:
        os.close(folder)
    fsync_folder(target.parent)
    return True


def write_file(path: Path | str, data: bytes) -> None:
    """Write a file so that a reader, or a crash, meets the old bytes or the new ones and nothing between."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            _write_through(stream, data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
        fsync_folder(target.parent)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk is told without a name
            error.filename = str(target)
        raise


def require_places(*files: Path | None, folders: Iterable[Path | None] = (), holding: Iterable[str] = ()) -> None:
    """Refuse, before any work is done for them, places where outputs could not be written; None is no place.

    Args:
        files: to be written by `write_file`.
        folders: to be made by `whole_folder`. One that is there may hold the very same, from the same work done before;
            one without a file of the names ``holding`` cannot.
        holding: see ``folders``.

    Raises:
        UnfitInput: a folder for a file or a file for a folder, a folder of something else, a file above it, no
            permission, or one place for two outputs.
    """
    plain, whole = ([path for path in paths if path is not None] for paths in (files, folders))
    _require_distinct([*plain, *whole])
    for path in whole:
        inside = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
        if inside and set(inside).isdisjoint(holding):
            shown = ", ".join(inside[:SHOWN])
            raise UnfitInput(str(path), f"a folder that holds {shown}", "a new name, or an empty folder")
        if os.path.lexists(path) and not path.is_dir():
            raise UnfitInput(str(path), "a file", "the name of a folder")
        _require_room_for_a_name(path)
    for path in plain:
        if path.is_dir():
            raise UnfitInput(str(path), "a folder", "the name of a file")
        _require_room_for_a_name(path)


def _require_distinct(paths: Iterable[Path]) -> None:
    places = [Path(os.path.abspath(path)) for path in paths]
    for at, place in enumerate(places):
        for other in places[:at]:
            if place == other or place in other.parents or other in place.parents:
                raise UnfitInput(str(place), f"{other} for another output too", "a place of its own for each")


def _require_room_for_a_name(path: Path) -> None:
    """A file can be made in the folder above it, or in the nearest one that is there: permissions alone do not tell."""
    there = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a file")
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        why = "no permission to write there" if error.errno in (errno.EACCES, errno.EPERM) else error.strerror
        raise UnfitInput(
            str(path), f"{there}: {why or error}", "a folder that can be written", "Name another place."
        ) from error


@contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """A temporary folder that takes the name ``path`` when the block ends well, and vanishes when it does not.

    A folder that is already there with the same names and bytes is left as it is, so that a repeated step succeeds.

    Raises:
        UnfitInput: ``path`` is there with other content.
    """
    target = Path(path)
    with temporary_folder(target) as temporary:
        yield temporary
        temporary.chmod(0o755)
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
        _rename(temporary, target)
        fsync_folder(target.parent)


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A folder of mode 0700 beside ``target`` that vanishes with the block, unless it was renamed in it.

    What a killed process left of the same name goes first; a lock tells it from the folder of a process at work.
    Folders that were made for it go with it when nothing else is in them.

    Raises:
        AssayError: the disk is full; says how much was written and is free.
    """
    made = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{TEMPORARY}{target.name}-"
    for left in target.parent.glob(f"{glob.escape(prefix)}*"):
        with _locked(left) as ours:
            if ours:
                shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    with _locked(temporary):
        try:
            yield temporary
        except OSError as error:
            if error.errno in FULL:
                raise _no_room(target, temporary, error) from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()


def _no_room(target: Path, temporary: Path, error: OSError) -> AssayError:
    """What a full disk is told as."""
    written = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
    free = shutil.disk_usage(target.parent).free
    return AssayError(
        str(target),
        f"{error.strerror or error} after {written} bytes of it, with {free} free",
        "room for all of it",
        "Nothing of it was kept: make room and run it again.",
    )


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Holds a folder while the block runs; says whether it could. A kill lets go."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = True
    except OSError:  # held by another, or a file system without locks
        held = False
    try:
        yield held
    finally:
        os.close(handle)


def _rename(temporary: Path, target: Path) -> None:
    if target.is_dir() and any(target.iterdir()):
        if canonical.tree_files(temporary) == canonical.tree_files(target):
            return
        raise UnfitInput(str(target), "a folder with other content", "a new name", "Move it away or write elsewhere.")
    os.replace(temporary, target)


def _link_unnamed(folder: int, name: str, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(".", os.O_TMPFILE | os.O_WRONLY, mode, dir_fd=folder), "wb") as stream:
        _write_through(stream, data)
        here = f"/proc/self/fd/{stream.fileno()}"
        os.link(here, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)


def _link_temporary(target: Path, data: bytes, mode: int) -> bool:
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(handle, mode)
            _write_through(stream, data)
        os.link(temporary, target)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def _write_through(stream: IO[bytes], data: bytes) -> None:
    stream.write(data)
    stream.flush()
    os.fsync(stream.fileno())
