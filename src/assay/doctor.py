"""What assay needs around it, checked one by one; each check says how to mend what it finds. Nothing is changed."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from assay.errors import AssayError, Conflict, redacted
from assay.keyring import Role, public_entry
from assay.ledger import FileLedger, Ledger, open_ledger
from assay.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assay.config import Config

State = Literal["ok", "warn", "fail"]
WITHOUT: dict[Role, tuple[State, str]] = {
    "custodian": ("warn", "quarantines are not signed"),
    "evaluator": ("fail", "unsigned evidence is never promoted"),
    "promoter": ("fail", "nothing is promoted unsigned"),
}
LEAST_FREE_BYTES = 2**30

__all__ = ["Check", "examine"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Fields:
        name: of the thing.
        state: ``ok``; ``warn``, works but not everywhere; ``fail``, something assay does will not work.
        found: what is there.
        mend: what to do about it; empty when nothing need be done.
    """

    name: str
    state: State
    found: str
    mend: str = ""


def examine(workspace: Workspace, config: Config | None = None, host: str = "") -> list[Check]:
    """Every check, in order; a check that breaks is a failed check.

    Args:
        workspace: whose folders, keys and services are looked at.
        config: its sources and image are looked at too, when given.
        host: address of Kubeflow Pipelines; empty for the environment's, and not looked at where there is none.
    """
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("python", _python),
        ("packages", _packages),
        ("home", lambda: _home(workspace)),
        *((f"{role} key", lambda role=role: _key(workspace, role)) for role in WITHOUT),
        ("ledger", lambda: _ledger(workspace)),
        ("mlflow", lambda: _mlflow(workspace.tracking_uri)),
        ("storage", lambda: _storage(workspace, config)),
        ("kubeflow", lambda: _kubeflow(host)),
        ("gpu", _gpu),
    ]
    return [_guarded(name, check) for name, check in checks]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except AssayError as error:
        return Check(name, "fail", f"{error.where}: {error.got}".rstrip(": "), error.fix or error.need)
    except Exception as error:  # whatever is broken around us is what we are here to report
        return Check(name, "fail", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", "See the message.")


def _python() -> Check:
    return Check(
        "python", "ok", f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}"
    )


def _packages() -> Check:
    from packaging.requirements import Requirement

    needed = [Requirement(text) for text in requires("assay") or []]
    wrong = [
        found
        for item in needed
        if (item.marker is None or item.marker.evaluate({"extra": ""})) and (found := _unmet(item))
    ]
    if wrong:
        return Check("packages", "fail", "; ".join(wrong), "Run make setup, or pip install -c constraints.txt assay.")
    return Check("packages", "ok", f"assay {version('assay')} and all it needs")


def _unmet(item: object) -> str:
    name, specifier = getattr(item, "name", ""), getattr(item, "specifier", None)
    try:
        there = version(name)
    except PackageNotFoundError:
        return f"{name} is missing"
    return (
        "" if specifier is None or specifier.contains(there, prereleases=True) else f"{name} {there}, need {specifier}"
    )


def _home(workspace: Workspace) -> Check:
    place = _existing(workspace.home)
    free = shutil.disk_usage(place).free
    if not os.access(place, os.W_OK):
        return Check("home", "fail", f"{place} cannot be written", "Set ASSAY_HOME to a folder of yours.")
    if free < LEAST_FREE_BYTES:
        return Check("home", "warn", f"{workspace.home}, {free / 2**20:.0f} MiB free", "Make room, or set ASSAY_HOME.")
    return Check("home", "ok", f"{workspace.home}, {free / 2**30:.0f} GiB free")


def _key(workspace: Workspace, role: Role) -> Check:
    name, uri = f"{role} key", workspace.signer_uris[role]
    signers = workspace.signers(role)
    if not signers:
        status, why = WITHOUT[role]
        return Check(name, status, f"none at {uri}", f"Run assay init: {why}.")
    entry = public_entry(signers[0], (role,))
    listed = {known.keyid: known for known in workspace.keyring.for_role(role, datetime.now(UTC))}
    if entry.keyid not in listed:
        mend = f"List its public half in {workspace.keyring_path}, in role {role} and valid now."
        return Check(name, "fail", f"{entry.keyid[:12]}, which the keyring does not list", mend)
    path = Path(uri.removeprefix("file2:"))
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return Check(name, "warn", f"{uri}, which others may read", f"chmod 600 {path}")
    if listed[entry.keyid].assurance == "local":
        return Check(name, "ok", f"{entry.keyid[:12]}, assurance local", "Enough here; a cluster needs a managed key.")
    return Check(name, "ok", f"{entry.keyid[:12]}, assurance managed")


def _ledger(workspace: Workspace) -> Check:
    """Proves create-once where the ledger lies: a name that is bound must refuse other bytes."""
    with _probe_ledger(workspace.ledger_uri) as ledger:
        ledger.put("doctor/probe.txt", b"first")
        try:
            ledger.put("doctor/probe.txt", b"second")
        except Conflict:
            return Check("ledger", "ok", f"{workspace.ledger_uri}, create-once proven")
    mend = "Lay the ledger on a file system with hard links, or a store with conditional writes (ASSAY_LEDGER)."
    return Check("ledger", "fail", f"{workspace.ledger_uri} let a name be written twice", mend)


@contextmanager
def _probe_ledger(uri: str) -> Iterator[Ledger]:
    """The ledger itself in a bucket, where one small name stays; on disk an empty one beside it that goes again."""
    ledger = open_ledger(uri)
    if not isinstance(ledger, FileLedger):
        yield ledger
        return
    with tempfile.TemporaryDirectory(prefix=".assay-doctor-", dir=_existing(ledger.root)) as folder:
        yield FileLedger(Path(folder))


def _mlflow(uri: str) -> Check:
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return Check("mlflow", "ok", f"{uri}, made by the first run")
    from assay.mlflow_store import bounded_client, mlflow_settings

    with mlflow_settings():
        try:
            bounded_client(uri).search_experiments(max_results=1)
        except Exception as error:  # MLflow, its database driver and its HTTP client raise their own kinds
            mend = (
                "Start it or mend MLFLOW_TRACKING_URI; until then lineage waits in the outbox and nothing is promoted."
            )
            return Check("mlflow", "fail", f"{redacted(uri)}: {redacted(' '.join(str(error).split()))[:200]}", mend)
    return Check("mlflow", "ok", redacted(uri))


def _storage(workspace: Workspace, config: Config | None) -> Check:
    sources = config.sources if config is not None else ()
    missing = [source.uri for source in sources if "://" not in source.uri and not Path(source.uri).exists()]
    if missing:
        return Check("storage", "fail", f"no {', '.join(missing)}", "Mend the uri of these sources in assay.yaml.")
    uris = [workspace.ledger_uri, *(source.uri for source in sources)]
    buckets = sorted({urlsplit(uri).netloc for uri in uris if uri.startswith("s3://")})
    if not buckets:
        return Check("storage", "ok", "folders of this machine")
    from assay.data import object_store

    client = object_store.client()
    for bucket in buckets:
        try:
            client.head_bucket(Bucket=bucket)
        except Exception as error:  # botocore has many kinds, and credentials fail in each
            mend = "Check AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's name."
            return Check("storage", "fail", f"s3://{bucket}: {error}", mend)
    return Check("storage", "ok", ", ".join(f"s3://{bucket}" for bucket in buckets))


def _kubeflow(host: str) -> Check:
    if not (host or os.environ.get("KFP_ENDPOINT") or os.environ.get("KF_PIPELINES_ENDPOINT")):
        return Check("kubeflow", "ok", "no endpoint set; only submit, schedule and runs need one")
    from assay.kubeflow.client import Kubeflow

    kubeflow = Kubeflow(host)
    kubeflow.healthy()
    return Check("kubeflow", "ok", kubeflow.host)


def _gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        return Check("gpu", "ok", names)
    return Check(
        "gpu",
        "warn",
        f"none (torch {torch.__version__})",
        "train, evaluate and the filter's networks run on the CPU here; slower, as good.",
    )


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())
