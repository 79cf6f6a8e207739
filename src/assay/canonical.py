"""Canonical JSON (RFC 8785), SHA-256 digests and the one strict JSON reader.

Integers stay below 2**53 and floats take their shortest exact form, so equal values have equal bytes and a digest of
the bytes names the value. Reading refuses what a lenient parser would let through: duplicate keys, NaN, infinities,
numbers that overflow, nesting bombs, oversized files, unknown major versions of a schema.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

import rfc8785
import yaml

from assay.errors import UnfitInput

MAX_DOCUMENT_BYTES = 64 * 2**20

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "digest",
    "dumps",
    "file_digest",
    "loads",
    "read",
    "read_bytes",
    "read_yaml",
    "require_schema",
    "sha256",
    "tree_digest",
    "tree_files",
]


def dumps(value: Any) -> bytes:
    """Canonical bytes of a JSON value.

    Raises:
        UnfitInput: NaN, an infinity, an integer of 2**53 or more, or a value JSON has no form for.
    """
    try:
        return _text(value).encode()
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeEncodeError) as error:
        raise UnfitInput(
            "canonical JSON", str(error), "finite floats, integers below 2**53, text, lists and string-keyed objects"
        ) from error


def _text(value: Any) -> str:
    """What rfc8785 writes, several times sooner: plain JSON values here, all that is rare or refused there."""
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    if kind is dict and {*map(type, value)} <= {str}:
        keys = sorted(value) if "".join(value).isascii() else sorted(value, key=lambda key: key.encode("utf-16be"))
        return "{" + ",".join([f"{encode_basestring(key)}:{_text(value[key])}" for key in keys]) + "}"
    if kind is list or kind is tuple:
        return "[" + ",".join([_text(element) for element in value]) + "]"
    if kind is int and -(2**53) < value < 2**53:
        return repr(value)
    if kind is float and 1e-4 <= abs(value) < 1e16:  # where Python writes no exponent
        return repr(value).removesuffix(".0")
    return rfc8785.dumps(value).decode()


def sha256(data: bytes) -> str:
    """Lower-case hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value."""
    return sha256(dumps(value))


def loads(data: bytes | str, where: str = "JSON", limit: int = MAX_DOCUMENT_BYTES) -> Any:
    """Parse JSON strictly.

    Raises:
        UnfitInput: larger than ``limit`` bytes, not UTF-8, not JSON, a duplicate key, a number that is not finite.
    """
    if len(data) > limit:
        raise UnfitInput(where, f"{len(data)} bytes", f"at most {limit}")
    try:
        text = data.decode("utf-8", "strict") if isinstance(data, bytes) else data
        return json.loads(
            text, object_pairs_hook=_no_duplicates, parse_constant=_not_finite, parse_float=_finite, parse_int=_exact
        )
    except UnfitInput as error:
        raise UnfitInput(f"{where}: {error.where}", error.got, error.need) from error
    except (ValueError, RecursionError) as error:
        raise UnfitInput(where, f"{type(error).__name__}: {error}", "one JSON document") from error


def read(path: Path | str, limit: int = MAX_DOCUMENT_BYTES) -> Any:
    """Parse one JSON file strictly; see `loads`."""
    return loads(read_bytes(path, limit), where=str(path), limit=limit)


def read_yaml(path: Path | str, limit: int = 2**20) -> Any:
    """Parse one YAML file strictly: safe types only, no duplicate keys, one document; empty is an error."""
    text = read_bytes(path, limit)
    try:
        value = yaml.load(text, Loader=_StrictYAML)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UnfitInput(str(path), " ".join(str(error).split()), "one YAML document") from error
    if value is None:
        raise UnfitInput(str(path), "an empty document", "a mapping")
    return value


def read_bytes(path: Path | str, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The bytes of a file that may come from anywhere: one larger than ``limit`` is refused, unread."""
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise UnfitInput(str(path), error.strerror or str(error), "a readable file") from error
    if len(data) > limit:
        raise UnfitInput(str(path), f"more than {limit} bytes", f"at most {limit}")
    return data


def require_schema(document: Any, name: str, where: str, major: int = 1) -> dict[str, Any]:
    """The document itself when its ``schema`` says ``name/v<major>``; another major version is refused."""
    got = document.get("schema") if isinstance(document, dict) else type(document).__name__
    if got != f"{name}/v{major}":
        raise UnfitInput(f"{where}: schema", repr(got), f"{name}/v{major}", "Was it written by another release?")
    return dict(document)


def file_digest(path: Path | str) -> str:
    """SHA-256 of a file's bytes, read in chunks."""
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UnfitInput(str(path), error.strerror or str(error), "a readable file") from error


def tree_files(folder: Path | str) -> dict[str, str]:
    """Name (POSIX, relative) and SHA-256 of every file below a folder, in byte order of the name.

    Raises:
        UnfitInput: not a folder, empty, or holding a link or anything else that is not a plain file or folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UnfitInput(str(root), "no folder", "a folder")
    files = {Path(path).relative_to(root).as_posix(): file_digest(path) for path in _plain_files(str(root))}
    if not files:
        raise UnfitInput(str(root), "an empty folder", "at least one file")
    return dict(sorted(files.items(), key=lambda item: item[0].encode()))


def _plain_files(folder: str) -> Iterator[str]:
    """Every file below a folder; a link or anything special is refused."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _plain_files(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.path
                else:
                    raise UnfitInput(entry.path, "a link or special file", "plain files only")
    except OSError as error:
        raise UnfitInput(folder, error.strerror or str(error), "a folder that can be read") from error


def tree_digest(files: Mapping[str, str]) -> str:
    """One digest of a folder's names and contents, from `tree_files`."""
    return digest(dict(files))


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise UnfitInput(f"key {twice!r}", "it twice in one object", "each key once")
    return seen


def _not_finite(text: str) -> float:
    raise UnfitInput("number", text, "finite numbers")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)


def _exact(text: str) -> int | float:
    """Integers that canonical JSON can hold; greater ones are the doubles whose shortest form they are."""
    value = int(text) if len(text) < 20 else 2**53
    return value if -(2**53) < value < 2**53 else _finite(text)


class _StrictYAML(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys and aliases (which can blow up a document)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("an alias: write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                raise yaml.YAMLError(f"the key {key!r} twice {node.value[position][0].start_mark}")
        return super().construct_mapping(node, deep)
