"""The tracking store that MLflow writes to: reached within a bound, and made whole where it is not there yet."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from assay.data.files import create_file
from assay.errors import Unreachable

BOUND_S, CONNECT_S = 10.0, 5.0
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
}

__all__ = ["bounded_client", "make_store", "mlflow_settings", "require_database"]


class _Bounded:
    """A client whose calls stop once the time is up; each single call is bounded by MLflow's own time limit."""

    def __init__(self, client: Any, deadline: float) -> None:
        self._client, self._deadline = client, deadline

    def __getattr__(self, name: str) -> Any:
        if time.monotonic() > self._deadline:
            raise Unreachable("MLflow", "no end of the delivery", f"one within {BOUND_S:g} s")
        return getattr(self._client, name)


def bounded_client(uri: str) -> Any:
    """An ``MlflowClient`` of the store, with the file of a SQLite one made.

    Raises:
        Unreachable: nobody answers; from its calls too, `BOUND_S` later.
    """
    from mlflow.tracking import MlflowClient

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    require_database(uri)
    return _Bounded(MlflowClient(tracking_uri=uri), time.monotonic() + BOUND_S)


def make_store(uri: str) -> None:
    """Make the SQLite file of a store that is not there yet, whole or not at all.

    MLflow makes its tables one after the other, and of a file in which a kill left some it says that they exist.
    """
    if not uri.startswith("sqlite:///") or (file := _file_of(uri)).exists():
        return
    from mlflow.tracking import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / file.name
        MlflowClient(tracking_uri=f"sqlite:///{made}").search_experiments(max_results=1)
        create_file(file, made.read_bytes())


def require_database(uri: str) -> None:
    """Ask a database directly, within a bound: MLflow tries to connect to one for a hundred seconds.

    Raises:
        Unreachable: the file cannot be opened or stays locked, or nobody listens at the address.
    """
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    try:
        if uri.startswith("sqlite:///"):
            make_store(uri)
            with closing(sqlite3.connect(_file_of(uri), timeout=CONNECT_S, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
        elif scheme in PORTS and parts.hostname:
            socket.create_connection((parts.hostname, parts.port or PORTS[scheme]), timeout=CONNECT_S).close()
    except (OSError, sqlite3.Error) as error:
        raise Unreachable("tracking database", str(error), f"an answer within {CONNECT_S:g} s") from error


def _file_of(uri: str) -> Path:
    return Path(uri.removeprefix("sqlite:///").partition("?")[0])


@contextmanager
def mlflow_settings() -> Iterator[None]:
    """Quiet, and soon done with a server that does not answer: MLflow's patience is minutes. What is set stays."""
    added = [name for name in QUIET if name not in os.environ]
    os.environ.update({name: QUIET[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
