"""The other side of `assay.blackbox.pyfunc`: runs somebody's code, with as little around it as can be had.

Started as a script in a process of its own, with an empty environment. Before the model's code is loaded: no network
(a network namespace with no interface, in a user namespace), no new privileges, no core files, no more memory or open
files than allowed. One JSON line says what of it holds; the parent decides whether that is enough. Then requests and
answers, each a length and a NumPy array without objects. What the model prints goes to standard error.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import struct
import sys
from typing import Any, BinaryIO

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_NO_NEW_PRIVS = 38
OPEN_FILES = 1024

__all__ = ["main"]


def confine() -> dict[str, bool]:
    """Give up what can be given up; says for each whether it is gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    network = libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 and not _reaches_out()
    privileges = libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return {"no_network": network, "no_new_privileges": privileges, "no_environment": not _secrets()}


def _reaches_out() -> bool:
    """Whether any interface but the loopback one is there."""
    with open("/proc/self/net/dev") as lines:
        names = [line.split(":")[0].strip() for line in lines if ":" in line]
    return any(name != "lo" for name in names)


def _secrets() -> set[str]:
    return set(os.environ) - {"PATH", "HOME", "TMPDIR", "LANG", "LC_CTYPE", "OMP_NUM_THREADS", "PYTHONNOUSERSITE"}


def main(path: str, needed: str) -> None:
    """Confine, say what holds, load, answer until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    holds = confine()
    _send(answers, json.dumps(holds).encode())
    if needed == "isolated" and not all(holds.values()):
        return
    import numpy as np

    predict = _load(path)
    _send(answers, b"ready")
    while (data := receive(sys.stdin.buffer)) is not None:
        found = np.asarray(predict(np.load(io.BytesIO(data), allow_pickle=False)))
        sink = io.BytesIO()
        np.save(sink, found, allow_pickle=False)
        _send(answers, sink.getvalue())


def _load(path: str) -> Any:
    """The model's ``predict`` on arrays; a table with named columns gets a frame, as its signature says."""
    import mlflow.pyfunc
    import pandas as pd

    model = mlflow.pyfunc.load_model(path)
    schema = model.metadata.get_input_schema()
    names = (
        schema.input_names() if schema is not None and schema.has_input_names() and not schema.is_tensor_spec() else []
    )
    if not names:
        return model.predict
    return lambda x: model.predict(pd.DataFrame(x.reshape(len(x), -1).astype("float64"), columns=names))


def _send(stream: BinaryIO, data: bytes) -> None:
    stream.write(struct.pack("<Q", len(data)) + data)
    stream.flush()


def receive(stream: BinaryIO) -> bytes | None:
    """One message, or None at the end."""
    head = stream.read(8)
    return stream.read(struct.unpack("<Q", head)[0]) if len(head) == 8 else None


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
