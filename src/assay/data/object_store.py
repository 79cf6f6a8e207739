"""Object storage: downloads pinned to one version of an object.

The endpoint and credentials are those boto3 finds (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ...). Retries and time
are bounded; a store that does not answer is `Unreachable`, and what was asked for has then not happened or can be asked
for again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    IncompleteReadError,
    NoCredentialsError,
    ResponseStreamingError,
)
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from assay.data.files import TEMPORARY
from assay.errors import UnfitInput, Unreachable

ATTEMPTS = 4
TIMEOUT_S = 20
PIECE_BYTES = 2**20
PAGE_NAMES = 1000
MISSING = 404
RACING = 409  # two conditional puts of one key at once: ask again
BROKEN_OFF = (ResponseStreamingError, IncompleteReadError, FlexibleChecksumError)  # boto3 itself asks again for others

T = TypeVar("T")

__all__ = [
    "again",
    "client",
    "download",
    "download_folder",
    "exists",
    "fetch",
    "pinned",
    "split_uri",
    "status_of",
    "translated",
]


def client() -> Any:
    """A boto3 client whose every call ends within a few timeouts."""
    settings = Config(
        connect_timeout=TIMEOUT_S,
        read_timeout=TIMEOUT_S,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        request_checksum_calculation="when_supported",
        response_checksum_validation="when_supported",
    )
    return boto3.session.Session().client("s3", config=settings)


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``; the key may be empty."""
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
        raise UnfitInput("object", repr(uri), "s3://bucket/key")
    return parts.netloc, parts.path.strip("/")


def pinned(uri: str) -> tuple[str, str]:
    """A URI without its version, and the version: ``s3://bucket/key?versionId=...`` pins one, else it is empty.

    Raises:
        UnfitInput: another query.
    """
    plain, mark, query = uri.partition("?")
    key, _, version = query.partition("=")
    if mark and (key != "versionId" or not re.fullmatch(r"[A-Za-z0-9._~+/=-]{1,1024}", version)):
        raise UnfitInput("object", repr(uri), "s3://bucket/key, or s3://bucket/key?versionId=...")
    return plain, version


def download(uri: str, target: Path, limit: int) -> Path:
    """Fetch one version of an object whole; see `fetch`."""
    fetch(uri, target, limit)
    return target


def fetch(uri: str, target: Path, limit: int, store: Any = None) -> str:
    """Fetch one version of an object whole; returns the version, empty where the bucket keeps none.

    The version, or where the bucket keeps none the entity tag, is taken first, so that an object that is replaced
    meanwhile is never half of each; length and checksum are those the store has for it. The entity tag is only ever
    compared with itself: of an object uploaded in parts it is no digest of the bytes.

    Args:
        uri: ``s3://bucket/key``, or with ``?versionId=...`` that version of it, deleted since or not.
        target: file to write; it appears whole.
        limit: bytes.
        store: a `client` to use again, or None.

    Raises:
        UnfitInput: no such object, above the limit, or replaced while it was read.
        Unreachable: the store does not answer, or breaks off again and again.
    """
    plain, asked = pinned(uri)
    bucket, key = split_uri(plain)
    store = store or client()
    with translated(uri):
        head = store.head_object(Bucket=bucket, Key=key, **({"VersionId": asked} if asked else {}))
        if head["ContentLength"] > limit:
            raise UnfitInput(uri, f"{head['ContentLength']} bytes", f"at most {limit}")
        version = asked or head.get("VersionId") or "null"
        exact = {"VersionId": version} if version != "null" else {"IfMatch": head["ETag"]}
        part = target.with_name(f"{TEMPORARY}{target.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            again(lambda: _stream(store, part, Bucket=bucket, Key=key, ChecksumMode="ENABLED", **exact))
            if part.stat().st_size != head["ContentLength"]:
                raise Unreachable(uri, f"{part.stat().st_size} bytes", f"{head['ContentLength']}")
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    return "" if version == "null" else version


def exists(uri: str) -> bool:
    """Whether an object is there.

    Raises:
        UnfitInput: it may not be asked for.
        Unreachable: the store does not answer.
    """
    bucket, key = split_uri(uri)
    with translated(uri):
        try:
            client().head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if status_of(error) == MISSING:
                return False
            raise
    return True


def download_folder(uri: str, target: Path, limit: int) -> Path:
    """Fetch every object below ``s3://bucket/prefix/``, each as `download` does, into a folder of the same names.

    Raises:
        UnfitInput: none there, above the limit together, or a key that is no plain relative path.
        Unreachable: the store does not answer.
    """
    bucket, prefix = split_uri(uri)
    store = client()
    with translated(uri):
        pages = store.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=f"{prefix}/", PaginationConfig={"PageSize": PAGE_NAMES}
        )
        sizes = {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}
    if not sizes or sum(sizes.values()) > limit:
        raise UnfitInput(uri, f"{len(sizes)} objects, {sum(sizes.values())} bytes", f"1 or more, at most {limit} bytes")
    for key in sorted(sizes):
        name = key.removeprefix(f"{prefix}/")
        if any(segment in ("", ".", "..") for segment in name.split("/")):
            raise UnfitInput(uri, repr(key), "keys that are plain relative paths below it")
        fetch(f"s3://{bucket}/{key}", target / name, limit, store)
    return target


def _stream(store: Any, part: Path, **request: Any) -> None:
    body = store.get_object(**request)["Body"]
    with part.open("wb") as stream:
        for piece in body.iter_chunks(PIECE_BYTES):
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())


def again(call: Callable[[], T]) -> T:
    """The call's answer; one that breaks off while it is read, or meets a racing put, is asked again, a few times."""
    return Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(0.1, max=2),
        retry=retry_if_exception(_passing),
        reraise=True,
    )(call)


def _passing(error: BaseException) -> bool:
    if isinstance(error, ClientError):
        return status_of(error) == RACING
    return isinstance(error, BROKEN_OFF)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """What boto3 raises, as assay's errors."""
    try:
        yield
    except ClientError as error:
        _refuse(where, error)
    except NoCredentialsError as error:
        raise UnfitInput(where, "no credentials", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role") from error
    except BotoCoreError as error:
        raise Unreachable(where, f"{type(error).__name__}: {error}", "an answer from the object store") from error


def _refuse(where: str, error: ClientError) -> NoReturn:
    status, said = status_of(error), f"{error.response['Error'].get('Code')}: {error.response['Error'].get('Message')}"
    if (status >= 500 and status != 501) or status in (RACING, 429):
        raise Unreachable(where, said, "an answer from the object store") from error
    fixes = {
        404: "Is the bucket or key there?",
        403: "May these credentials read it?",
        412: "It was replaced while it was read.",
        501: "The store does not know conditional puts.",
    }
    raise UnfitInput(where, said, "an object that can be read or written", fixes.get(status, "")) from error


def status_of(error: ClientError) -> int:
    """The HTTP status of an answer that boto3 raised."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
