"""A model behind an address that speaks the Open Inference Protocol (KServe v2), over HTTP."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import urllib3

from assay.errors import Refused, UnfitInput, Unreachable

PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/v2/models/[A-Za-z0-9._-]+(?:/versions/[A-Za-z0-9._-]+)?")
TYPES = {"FP64": np.float64, "FP32": np.float32, "FP16": np.float32, "INT64": np.int64, "INT32": np.int32}
TYPES |= {"INT8": np.int64, "UINT8": np.int64, "INT16": np.int64, "BOOL": np.int64}
TOKEN = "ASSAY_ENDPOINT_TOKEN"  # the name of a variable
VALUE_BYTES, HEAD_BYTES = 64, 2**16

__all__ = ["TOKEN", "OpenInference"]


@dataclass(frozen=True, kw_only=True)
class OpenInference:
    """One model of a server: ``http(s)://host[:port]/v2/models/NAME``, with ``/versions/V`` for one version.

    Every request is tried at most ``attempts`` times, each within ``timeout_s``; no redirect is followed, no proxy of
    the environment asked, and an answer larger than the number of rows explains is not read. The bearer token in
    ``ASSAY_ENDPOINT_TOKEN``, if there is one, goes to https addresses only.

    Raises:
        UnfitInput: another kind of address, or a model with other tensors than one input and an output.
        Unreachable: no answer within the bounds.
        Refused: an answer that is no success.
    """

    url: str
    most_values: int
    timeout_s: float = 10.0
    attempts: int = 3
    output: str = ""
    _pool: urllib3.PoolManager = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise UnfitInput("endpoint", repr(self.url), "http(s)://host[:port]/v2/models/NAME without a user")
        if not PATH.fullmatch(parts.path) or parts.query or parts.fragment:
            raise UnfitInput("endpoint", repr(self.url), "a path /v2/models/NAME, with /versions/V or without")
        retries = urllib3.Retry(
            total=self.attempts - 1,
            allowed_methods=None,
            redirect=False,
            status_forcelist=(429, 502, 503, 504),
            backoff_factor=0.1,
            backoff_max=2.0,
            respect_retry_after_header=False,
            raise_on_status=False,
        )
        pool = urllib3.PoolManager(retries=retries, timeout=urllib3.Timeout(total=self.timeout_s))
        object.__setattr__(self, "_pool", pool)

    def describe(self) -> Mapping[str, Any]:
        """The address and what the server says of the model: name, versions, platform, tensors."""
        said = self._ask("GET", self.url, None, HEAD_BYTES)
        known = {key: said.get(key) for key in ("name", "versions", "platform", "inputs", "outputs")}
        if not isinstance(known["name"], str) or not isinstance(known["inputs"], list) or len(known["inputs"]) != 1:
            raise UnfitInput("endpoint: metadata", str(known)[:200], "a name, and exactly one input tensor")
        return {"url": self.url, **known}

    def __call__(self, x: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """One inference request; the output by name, or the first."""
        if not np.isfinite(x).all():
            raise UnfitInput("endpoint: input", "values that are not finite", "finite values")
        tensor = {"name": self._input, "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
        most = HEAD_BYTES + VALUE_BYTES * self.most_values * len(x)
        said = self._ask("POST", f"{self.url}/infer", {"inputs": [tensor]}, most)
        return self._tensor(said.get("outputs"))

    @property
    def _input(self) -> str:
        if "_name" not in self.__dict__:
            object.__setattr__(self, "_name", str(self.describe()["inputs"][0].get("name", "")))
        return str(self.__dict__["_name"])

    def _tensor(self, outputs: Any) -> npt.NDArray[Any]:
        try:
            named = {str(each["name"]): each for each in outputs}
            found = named[self.output] if self.output else outputs[0]
            shape = tuple(int(size) for size in found["shape"])
            values = np.asarray(found["data"], dtype=TYPES[found["datatype"]]).ravel()
            if values.size != math.prod(shape) or not shape:
                raise ValueError(f"{values.size} values for shape {shape}")
            return values.reshape(shape)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise UnfitInput(
                "endpoint: answer", f"{type(error).__name__}: {str(error)[:200]}", "an output tensor with JSON data"
            ) from error

    def _ask(self, method: str, url: str, body: Any, most_bytes: int) -> dict[str, Any]:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        if os.environ.get(TOKEN) and url.startswith("https://"):
            headers["Authorization"] = f"Bearer {os.environ[TOKEN]}"
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        try:
            answer = self._pool.request(
                method, url, body=data, headers=headers, preload_content=False, decode_content=False
            )
            content = self._read(answer, most_bytes)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(
                f"endpoint {url}", f"{type(error).__name__}: {str(error)[:200]}", f"an answer in {self.timeout_s:g} s"
            ) from error
        if answer.status != 200:
            raise Refused(f"endpoint {url}", f"status {answer.status}: {content[:200]!r}", "200")
        if len(content) > most_bytes:
            raise UnfitInput(f"endpoint {url}", f"an answer above {most_bytes} bytes", "one value a class and record")
        return _parsed(content, url)

    def _read(self, answer: urllib3.BaseHTTPResponse, most_bytes: int) -> bytes:
        """At most one byte more than allowed, and no longer than one try may take: a server may send byte by byte."""
        until, content = time.monotonic() + self.timeout_s, b""
        while len(content) <= most_bytes and (part := answer.read1(2**16)):
            content += part
            if time.monotonic() > until:
                answer.close()
                raise TimeoutError(f"{len(content)} bytes in {self.timeout_s:g} s")
        answer.release_conn() if len(content) <= most_bytes else answer.close()
        return content


def _parsed(content: bytes, url: str) -> dict[str, Any]:
    """A JSON object; a NaN or an infinity stays what it is, for it is measured."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnfitInput(f"endpoint {url}", f"{type(error).__name__}: {str(error)[:100]}", "a JSON object") from error
    if not isinstance(document, dict):
        raise UnfitInput(f"endpoint {url}", type(document).__name__, "a JSON object")
    return document
