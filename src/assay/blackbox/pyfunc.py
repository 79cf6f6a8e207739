"""An MLflow model as a black box: its code runs in a process of its own, with consent, and answers arrays.

An MLflow model is code: loading one runs whatever its maker pickled. So it is never loaded here. The process that
loads it has no environment variable of ours (no credentials), an empty home and, in a network namespace of its own, no
network. It does run as the same user: what that user may read and write on disk, it may too, which is why consent is
asked, and why the evidence says what was enforced.
"""

from __future__ import annotations

import io
import json
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from assay import canonical
from assay.blackbox import worker
from assay.errors import AssayError, Refused, UnfitInput

START_S = 120.0
HEAD_BYTES, VALUE_BYTES = 2**16, 16

__all__ = ["PyFunc", "opened"]


@dataclass(frozen=True)
class PyFunc:
    """A running model.

    Fields:
        process: that runs it.
        digest: of its files, as they were when it was started.
        enforced: what the process could give up: ``no_network``, ``no_new_privileges``, ``no_environment``.
        most_values: numbers that one row's answer may have.
        timeout_s: of one answer.
    """

    process: subprocess.Popen[bytes]
    digest: str
    enforced: Mapping[str, bool]
    most_values: int
    timeout_s: float

    def describe(self) -> Mapping[str, Any]:
        """Its digest and what was enforced."""
        return {"kind": "mlflow.pyfunc", "digest": self.digest, "enforced": dict(self.enforced)}

    def __call__(self, x: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """What the model's ``predict`` says of the rows."""
        sink = io.BytesIO()
        np.save(sink, x, allow_pickle=False)
        _send(self.process, sink.getvalue(), self.timeout_s)
        data = _receive(self.process, HEAD_BYTES + VALUE_BYTES * self.most_values * len(x), self.timeout_s)
        try:
            found: npt.NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise UnfitInput("pyfunc: answer", f"{type(error).__name__}: {error}", "an array of numbers") from error
        return found


@contextmanager
def opened(
    path: Path, consent: Literal["refuse", "isolated", "unisolated"], *, most_values: int, timeout_s: float
) -> Iterator[PyFunc]:
    """Start the model in a process of its own, and end the process with the block.

    Raises:
        Refused: no consent, or isolation that this machine does not give.
        UnfitInput: a folder that is no MLflow model.
        AssayError: the model does not load, or the process ends.
    """
    if not (path / "MLmodel").is_file():
        raise UnfitInput(str(path), "no file MLmodel", "the folder of an MLflow model")
    if consent == "refuse":
        raise Refused(
            f"model {path}",
            "an MLflow model, which is code that runs when it is loaded",
            "consent",
            "Say --pyfunc isolated, or evaluate.black_box.pyfunc, if you trust its maker that far.",
        )
    digest = canonical.tree_digest(canonical.tree_files(path))
    with TemporaryDirectory(prefix="assay-pyfunc-") as home:
        command = [sys.executable, "-I", worker.__file__, str(path.absolute()), consent]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(home), cwd=home
        )  # its standard error is ours: what the model prints is for people
        try:
            enforced = json.loads(_receive(process, HEAD_BYTES, START_S))
            if consent == "isolated" and not all(enforced.values()):
                missing = ", ".join(sorted(name for name, holds in enforced.items() if not holds))
                raise Refused(f"model {path}", f"a machine that does not give {missing}", "isolation", "See the docs.")
            _receive(process, HEAD_BYTES, START_S)
            yield PyFunc(process, digest, enforced, most_values, timeout_s)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()


def _environment(home: str) -> dict[str, str]:
    return {"PATH": os.defpath, "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}


def _send(process: subprocess.Popen[bytes], data: bytes, timeout_s: float) -> None:
    assert process.stdin is not None
    descriptor, until = process.stdin.fileno(), time.monotonic() + timeout_s
    os.set_blocking(descriptor, False)
    left = memoryview(struct.pack("<Q", len(data)) + data)
    while left:
        _, ready, _ = select.select([], [descriptor], [], max(0.0, until - time.monotonic()))
        try:
            left = left[os.write(descriptor, left) if ready else 0 :]
        except OSError as error:
            raise AssayError("pyfunc", f"a process that ended: {error}", "one that answers") from error
        if not ready:
            raise AssayError("pyfunc", "a process that does not listen", "one that answers")


def _receive(process: subprocess.Popen[bytes], most_bytes: int, timeout_s: float) -> bytes:
    """One message of at most so many bytes, in time."""
    until = time.monotonic() + timeout_s
    (size,) = struct.unpack("<Q", _exactly(process, 8, until))
    if size > most_bytes:
        raise UnfitInput("pyfunc: answer", f"{size} bytes", f"at most {most_bytes}")
    return _exactly(process, size, until)


def _exactly(process: subprocess.Popen[bytes], count: int, until: float) -> bytes:
    assert process.stdout is not None
    descriptor, found = process.stdout.fileno(), b""
    while len(found) < count:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
        part = os.read(descriptor, min(count - len(found), 2**20)) if ready else b""
        if not part:
            why = "a process that ended; it said why on standard error" if ready else "no answer in time"
            raise AssayError("pyfunc", why, "an answer")
        found += part
    return found
