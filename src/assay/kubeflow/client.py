"""A Kubeflow Pipelines endpoint: upload a version, run that version, schedule it, list what ran.

Through kfp's own client, with three things mended: calls are bounded in time, its links do not land on standard output,
and what it raises becomes one of assay's errors that says how to mend it.
"""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import assay
from assay.errors import AssayError, Conflict, Refused, UnfitInput, Unreachable
from assay.kubeflow.compile import Compiled

CONNECT_S, READ_S = 5, 60
EXPERIMENT = "assay"

__all__ = ["EXPERIMENT", "Kubeflow", "Version", "endpoint", "token"]


@dataclass(frozen=True)
class Version:
    """A version of a pipeline on the server; its name carries the digest of what it is."""

    pipeline: str
    name: str
    pipeline_id: str
    version_id: str


def endpoint(host: str = "") -> str:
    """The address of the API: as given, else ``KFP_ENDPOINT`` or ``KF_PIPELINES_ENDPOINT``.

    Raises:
        UnfitInput: none, or not http.
    """
    address = host or os.environ.get("KFP_ENDPOINT") or os.environ.get("KF_PIPELINES_ENDPOINT") or ""
    if not re.match(r"https?://[^/]+", address):
        raise UnfitInput(
            "Kubeflow endpoint", repr(address), "http(s)://host[:port]", "Pass --host or set KFP_ENDPOINT."
        )
    return address.rstrip("/")


def token() -> str:
    """The bearer token, or empty.

    ``KF_PIPELINES_TOKEN``, else that of the service account whose path is in ``KF_PIPELINES_SA_TOKEN_PATH``.
    """
    path = os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", "")
    try:
        return os.environ.get("KF_PIPELINES_TOKEN") or (Path(path).read_text().strip() if path else "")
    except OSError as error:
        raise UnfitInput("KF_PIPELINES_SA_TOKEN_PATH", f"{path}: {error.strerror}", "a readable token") from error


class Kubeflow:
    """One endpoint and namespace.

    Args:
        host: see `endpoint`.
        namespace: the user's, on a multi-user Kubeflow; empty on a single-user one.
    """

    def __init__(self, host: str = "", namespace: str = "") -> None:
        self.host, self.namespace = endpoint(host), namespace or os.environ.get("KFP_NAMESPACE", "")
        with self._calling("connect"):
            self._client = _client(self.host, self.namespace)

    def upload(self, compiled: Compiled) -> Version:
        """Upload a compiled pipeline as a version named after its digest, unless it is there already."""
        name = f"{assay.__version__}-{compiled.digest[:12]}"
        with self._calling("upload"), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{compiled.name}.yaml"
            path.write_bytes(compiled.yaml)
            pipeline_id = self._pipeline_id(compiled.name)
            if not pipeline_id:
                made = self._client.upload_pipeline(str(path), compiled.name, namespace=self.namespace or None)
                pipeline_id = made.pipeline_id
            version_id = self._version_id(pipeline_id, name)
            if not version_id:
                uploaded = self._client.upload_pipeline_version(str(path), name, pipeline_id=pipeline_id)
                version_id = uploaded.pipeline_version_id
        return Version(compiled.name, name, pipeline_id, version_id)

    def run(
        self,
        version: Version,
        arguments: Mapping[str, Any],
        *,
        experiment: str,
        service_account: str,
        pipeline_root: str,
    ) -> str:
        """Start a run of a version; returns its id."""
        with self._calling("run"):
            made = self._client.run_pipeline(
                experiment_id=self._experiment_id(experiment),
                job_name=f"{version.pipeline} {version.name}",
                params=dict(arguments),
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                pipeline_root=pipeline_root or None,
                service_account=service_account or None,
            )
            return str(made.run_id)

    def schedule(
        self,
        version: Version,
        arguments: Mapping[str, Any],
        *,
        cron: str,
        name: str,
        experiment: str,
        service_account: str,
        pipeline_root: str,
    ) -> str:
        """Run a version again and again: one at a time, and missed times are not made up for; returns the id.

        Called again with the same version and times it answers with the schedule that is there.

        Raises:
            Conflict: the name is taken by a schedule of another version or at other times.
        """
        with self._calling("schedule"):
            there = self._scheduled(name)
            if there is not None:
                return _same_schedule(there, version, cron, name)
            made = self._client.create_recurring_run(
                experiment_id=self._experiment_id(experiment),
                job_name=name,
                cron_expression=cron,
                no_catchup=True,
                max_concurrency=1,
                params=dict(arguments),
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                pipeline_root=pipeline_root or None,
                service_account=service_account or None,
            )
            return str(made.recurring_run_id)

    def runs(self, limit: int) -> list[dict[str, Any]]:
        """The latest runs: id, name, state, created, url."""
        with self._calling("list"):
            listed = self._client.list_runs(
                page_size=limit, sort_by="created_at desc", namespace=self.namespace or None
            )
        return [
            {
                "id": run.run_id,
                "name": run.display_name,
                "state": run.state or "PENDING",
                "created": run.created_at.isoformat() if run.created_at else "",
                "url": self.run_url(run.run_id),
            }
            for run in listed.runs or []
        ]

    def healthy(self) -> bool:
        """Whether the API answers its health check."""
        with self._calling("health check"):
            return self._client._healthz_api.healthz_service_get_healthz() is not None

    def run_url(self, run_id: str) -> str:
        """Page of a run."""
        return f"{self.host}/#/runs/details/{run_id}"

    def schedule_url(self, recurring_run_id: str) -> str:
        """Page of a schedule."""
        return f"{self.host}/#/recurringrun/details/{recurring_run_id}"

    def _pipeline_id(self, name: str) -> str:
        listed = self._client._pipelines_api.pipeline_service_list_pipelines(
            filter=_named(name), **({"namespace": self.namespace} if self.namespace else {})
        )
        return str(listed.pipelines[0].pipeline_id) if listed.pipelines else ""

    def _version_id(self, pipeline_id: str, name: str) -> str:
        listed = self._client.list_pipeline_versions(pipeline_id, filter=_named(name))
        versions = listed.pipeline_versions or []
        return next((str(one.pipeline_version_id) for one in versions if one.display_name == name), "")

    def _experiment_id(self, name: str) -> str:
        return str(self._client.create_experiment(name, namespace=self.namespace or None).experiment_id)

    def _scheduled(self, name: str) -> Any:
        listed = self._client.list_recurring_runs(namespace=self.namespace or None, filter=_named(name))
        return next((one for one in listed.recurring_runs or [] if one.display_name == name), None)

    @contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        """Keep kfp's links and warnings to itself, and turn what it raises into assay's errors."""
        import urllib3
        from kfp_server_api import ApiException

        where = f"Kubeflow {self.host}: {what}"
        try:
            with redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except ApiException as error:
            raise _said(where, int(error.status or 0), str(error.body or error.reason)[:500]) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            why = re.sub(r".*\[Errno -?\d+\] ", "", str(getattr(error, "reason", None) or error))
            raise Unreachable(
                where, f"{type(error).__name__}: {why}"[:300], "an answer", "Is the endpoint right, and reachable?"
            ) from error
        except ValueError as error:
            raise UnfitInput(where, str(error), "what kfp accepts") from error


def _client(host: str, namespace: str) -> Any:
    """Kfp's client, without the unbounded health check of its constructor, and bounded from then on."""
    from kfp.client import Client

    class Bounded(Client):  # type: ignore[misc]
        def get_kfp_healthz(self, sleep_duration: int = 0) -> SimpleNamespace:
            return SimpleNamespace(multi_user=False)

    client = Bounded(host=host, existing_token=token() or None, namespace=namespace or "kubeflow")
    rest = client._run_api.api_client.rest_client
    rest.request = _bounded(rest.request)
    return client


def _said(where: str, status: int, body: str) -> AssayError:
    got = f"status {status}: {' '.join(body.split())}"
    if status in (401, 403):
        return Refused(
            where, got, "a caller who may", "Set KF_PIPELINES_TOKEN, and --namespace on a multi-user Kubeflow."
        )
    if 400 <= status < 500:
        return UnfitInput(where, got, "a request that it accepts")
    return Unreachable(where, got, "an answer")


def _same_schedule(there: Any, version: Version, cron: str, name: str) -> str:
    reference, schedule = there.pipeline_version_reference, getattr(there.trigger, "cron_schedule", None)
    got = (getattr(reference, "pipeline_version_id", ""), getattr(schedule, "cron", ""))
    if got != (version.version_id, cron):
        raise Conflict(
            f"schedule {name}",
            f"version {got[0]} at {got[1]!r}",
            f"version {version.version_id} at {cron!r}",
            "Delete it on the Recurring Runs page first, or pass another --name: two at once would train twice.",
        )
    return str(there.recurring_run_id)


def _bounded(request: Any) -> Any:
    """The client's transport with a limit on every call; it has none of its own."""

    def bounded(*arguments: Any, **options: Any) -> Any:
        return request(
            *arguments, **{**options, "_request_timeout": options.get("_request_timeout") or (CONNECT_S, READ_S)}
        )

    return bounded


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
