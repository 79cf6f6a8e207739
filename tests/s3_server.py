"""The S3 server of the tests: moto in this process, or a real one that ``ASSAY_TEST_S3`` names.

    ASSAY_TEST_S3=http://127.0.0.1:17480 ASSAY_TEST_S3_KEY=testaccess ASSAY_TEST_S3_SECRET=testsecret \
        python -m pytest tests/faults/test_ledger_object_store.py tests/unit/test_ledger_store.py tests/container

``tests/container/ceph.sh`` starts such a one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

REAL = os.environ.get("ASSAY_TEST_S3", "")

__all__ = ["REAL", "credentials", "s3_server"]


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of the server, while the block runs."""
    if REAL:
        yield REAL
        return
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what boto3 signs with; moto takes anything."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", os.environ.get("ASSAY_TEST_S3_KEY", "test"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", os.environ.get("ASSAY_TEST_S3_SECRET", "test"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
