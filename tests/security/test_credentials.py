"""The password of an address is printed nowhere: no message, document, log line or record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from promotion_cases import TARGET, Candidate

from assay.cli.main import run
from assay.errors import AssayError, Refused, UnfitInput, Unreachable, redacted
from assay.promote import promote
from assay.workspace import Workspace

SECRET = "s3cr3t"
ADDRESSES = [
    f"http://user:{SECRET}@127.0.0.1:9",
    f"http://{SECRET}@127.0.0.1:9",
    f"http://user:{SECRET}@x@127.0.0.1:9",
    f"postgresql://user:{SECRET}@127.0.0.1:9/mlflow",
    f"postgresql+psycopg2://127.0.0.1:9/mlflow?user=u&password={SECRET}",
    f"mysql://user:{SECRET}@127.0.0.1:9/mlflow",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("kind", [AssayError, UnfitInput, Refused, Unreachable])
def test_no_error_repeats_it_wherever_it_came(kind: type[AssayError], address: str) -> None:
    said = f"HTTPConnectionPool: Max retries exceeded with url {address}/api (caused by {address!r})"
    error = kind(address, said, said, said)
    assert SECRET not in str(error)
    assert SECRET not in "".join((error.where, error.got, error.need, error.fix))


@pytest.mark.parametrize("text", ["alias:digits@champion", "s3://bucket/promotions/digits@champion", "a@b", "x=1&y=2"])
def test_what_is_no_credential_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize("address", [ADDRESSES[0], ADDRESSES[2], ADDRESSES[3], ADDRESSES[4]])
def test_an_mlflow_that_does_not_answer_is_named_without_it(
    address: str,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    candidate = Candidate(workspace, tmp_path)
    candidate.gate()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setattr("assay.registry.WAIT_S", 0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(AssayError) as caught:
        promote(candidate.decision_path, candidate.evidence_path, candidate.model, target=TARGET, run="r1")
    assert SECRET not in str(caught.value)
    for given in (["promote", "--reconcile", "--json"], ["audit", "--json"], ["audit"]):
        assert run(given) == 3
        output = capsys.readouterr()
        assert SECRET not in output.out + output.err
        if "--json" in given:
            assert "error" in json.loads(output.out)
    written = b"".join(path.read_bytes() for path in (workspace.home / "outbox").rglob("*") if path.is_file())
    assert SECRET.encode() not in written
    assert SECRET not in caplog.text
