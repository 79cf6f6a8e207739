"""MLflow's model registry as a copy of the signed promotions: versions, tags, aliases, through ``MlflowClient`` only.

MLflow answers a repeated create with a second version and sets an alias without asking what was there. So a version is
always looked up by our tag first, of several the lowest number counts and the others are deleted, and the order of
promotions is the ledger's, never MLflow's.

A version's source is where its bytes stay: the ledger's create-once folder when MLflow can name it (an ``s3://``
ledger; a folder beside a SQLite store). A tracking server refuses paths of this machine, so there the folder is logged
as artifacts of one MLflow run a promotion, found again by the same tag.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from assay.data.files import write_file
from assay.errors import UnfitInput, Unreachable, redacted
from assay.ledger import FileLedger, open_ledger
from assay.mlflow_store import make_store, mlflow_settings, require_database
from assay.promotions import Promotion
from assay.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

T = TypeVar("T")
TAG = "assay.promotion"
EXPERIMENT = "assay"
ATTEMPTS, WAIT_S = 3, 0.5
AGAIN = "Nothing was decided by it: run the same command again when it answers."

__all__ = ["TAG", "Registry", "tags_of"]


def tags_of(promotion: Promotion) -> dict[str, str]:
    """The tags of the version of a promotion: whole digests. A rollback has the version of the one it goes back to."""
    return {
        TAG: promotion.origin,
        "assay.evidence": promotion.evidence,
        "assay.decision": promotion.decision,
        "assay.model": promotion.model,
        "assay.sequence": str(promotion.origin_sequence),
        "assay.alias": promotion.target.alias,
    }


class Registry:
    """The registry of a workspace. Every call ends within a bound, in an answer or in `Unreachable`."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.uri = workspace.tracking_uri
        self.local = urlsplit(self.uri).scheme not in ("http", "https")

    def probe(self) -> None:
        """Ask MLflow anything.

        Raises:
            Unreachable: no answer within the bound; nothing was changed.
        """
        try:
            require_database(self.uri)
        except Unreachable as error:
            raise Unreachable(f"MLflow at {redacted(self.uri)}", error.got, error.need, AGAIN) from error
        self._ask(lambda client: client.search_registered_models(max_results=1))

    def versions(self, promotion: Promotion) -> list[ModelVersion]:
        """The versions that carry the promotion's tag, lowest first; one when all is well."""
        wanted = f"name = '{promotion.target.model}' and tags.`{TAG}` = '{promotion.origin}'"
        return self._ask(lambda client: _sorted(client.search_model_versions(wanted)))

    def all_versions(self, model: str) -> list[ModelVersion]:
        """Every version of a registered model."""
        return self._ask(lambda client: _sorted(client.search_model_versions(f"name = '{model}'")))

    def aliases(self, model: str) -> dict[str, str]:
        """Alias to version of a registered model; empty where there is no such model."""
        found = self._ask(lambda client: _unless_missing(lambda: client.get_registered_model(model)))
        return {alias: str(version) for alias, version in found.aliases.items()} if found is not None else {}

    def tags(self, model: str, version: str) -> dict[str, str]:
        """The tags of a version; empty where there is no such version."""
        found = self._ask(lambda client: _unless_missing(lambda: client.get_model_version(model, version)))
        return dict(found.tags) if found is not None else {}

    def register(self, promotion: Promotion) -> str:
        """The version of a promotion, created unless it is there; doubles that a crash or a race left are deleted.

        Raises:
            Unreachable: MLflow did not answer within the bound.
        """
        if not self.versions(promotion):
            self._ask(lambda client: self._create(client, promotion))
        kept, *doubles = self.versions(promotion)
        for double in doubles:
            self._ask(partial(_delete, version=double))
        return str(kept.version)

    def point(self, promotion: Promotion, version: str) -> None:
        """Set the target's alias to a version."""
        target = promotion.target
        self._ask(lambda client: client.set_registered_model_alias(target.model, target.alias, version))

    def step_metrics(self, run: str, step: str) -> list[dict[str, float]]:
        """The metrics MLflow shows for a step of a pipeline run; usually one entry, none where it has no such run."""
        wanted = f"tags.`assay.run` = '{run}' and tags.`assay.step` = '{step}'"
        return self._ask(lambda client: _metrics(client, wanted))

    def mark(self, model: str, version: str, tag: str, value: str) -> None:
        """Add a value to a version's tag: values stand beside each other, separated by commas, each once.

        Raises:
            Unreachable: MLflow did not answer within the bound, or has no such version.
        """

        def add(client: Any) -> None:
            there = [part for part in client.get_model_version(model, version).tags.get(tag, "").split(",") if part]
            client.set_model_version_tag(model, version, tag, ",".join(dict.fromkeys([*there, value])))

        self._ask(add)

    def download(self, version: ModelVersion, folder: Path) -> Path:
        """The files behind a version: where they are, or fetched into ``folder``."""
        if version.run_id:
            self._ask(lambda client: client.download_artifacts(version.run_id, "model", str(folder)))
            return folder / "model"
        if str(version.source).startswith("s3://"):
            root, _, model = str(version.source).rpartition("/models/")
            ledger = open_ledger(root)
            for name in ledger.names(f"models/{model}/"):
                write_file(folder / Path(name).name, ledger.get(name))
            return folder
        return Path(str(version.source))

    def _create(self, client: Any, promotion: Promotion) -> None:
        name = promotion.target.model
        if self._found(client, promotion):  # an earlier try got through, only its answer was lost
            return
        _unless_there(lambda: client.create_registered_model(name))
        source, run = self._source(client, promotion)
        client.create_model_version(name, source, run_id=run, tags=tags_of(promotion))

    def _found(self, client: Any, promotion: Promotion) -> bool:
        return bool(
            client.search_model_versions(f"name = '{promotion.target.model}' and tags.`{TAG}` = '{promotion.origin}'")
        )

    def _source(self, client: Any, promotion: Promotion) -> tuple[str, str | None]:
        ledger = self.workspace.ledger
        if not isinstance(ledger, FileLedger):
            return f"{self.workspace.ledger_uri.rstrip('/')}/models/{promotion.model}", None
        folder = ledger.root / "models" / promotion.model
        if self.local:
            return str(folder), None
        run = self._run(client, promotion)
        client.log_artifacts(run.info.run_id, str(folder), "model")
        client.set_terminated(run.info.run_id)
        return f"{run.info.artifact_uri}/model", run.info.run_id

    def _run(self, client: Any, promotion: Promotion) -> Any:
        """The MLflow run that holds the files of a promotion; of several that lost replies left, the oldest."""
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            _unless_there(lambda: client.create_experiment(EXPERIMENT))
            experiment = client.get_experiment_by_name(EXPERIMENT)
        here, wanted = [experiment.experiment_id], f"tags.`{TAG}` = '{promotion.origin}'"
        if not client.search_runs(here, wanted, max_results=1):
            name = f"promotion {promotion.origin_sequence} of {promotion.target.model}"
            client.create_run(here[0], tags={TAG: promotion.origin}, run_name=name)
        kept, *doubles = client.search_runs(here, wanted, order_by=["attributes.start_time ASC"])
        for double in doubles:
            client.delete_run(double.info.run_id)
        return kept

    def _ask(self, question: Callable[[Any], T]) -> T:
        """Put a question that may safely be asked twice; MLflow's failures become one."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        failures = (MlflowException, SQLAlchemyError, OSError, Unreachable)  # those of requests are OSErrors
        tries = Retrying(
            retry=retry_if_exception_type(failures),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_fixed(WAIT_S),
            retry_error_callback=self._give_up,
        )
        try:
            with mlflow_settings():
                answer: T = tries(lambda: question(self._client()))
        except ImportError as error:
            raise UnfitInput(f"MLflow at {redacted(self.uri)}", str(error), "its driver, installed") from error
        return answer

    def _client(self) -> Any:
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.WARNING)
        if self.uri.startswith("sqlite:///"):
            make_store(self.uri)
        else:  # MLflow itself tries to connect to a database for a hundred seconds
            require_database(self.uri)
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def _give_up(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise Unreachable(
            f"MLflow at {redacted(self.uri)}", cause, f"an answer within {ATTEMPTS} tries", AGAIN
        ) from error


def _metrics(client: Any, wanted: str) -> list[dict[str, float]]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [dict(run.data.metrics) for run in client.search_runs(experiments, wanted)]


def _sorted(versions: Any) -> list[ModelVersion]:
    return sorted(versions, key=lambda version: int(version.version))


def _delete(client: Any, version: ModelVersion) -> None:
    _unless_missing(lambda: client.delete_model_version(version.name, version.version))


def _unless_missing(question: Callable[[], T]) -> T | None:
    return _unless(question, "RESOURCE_DOES_NOT_EXIST")


def _unless_there(question: Callable[[], T]) -> T | None:
    return _unless(question, "RESOURCE_ALREADY_EXISTS")


def _unless(question: Callable[[], T], code: str) -> T | None:
    from mlflow.exceptions import MlflowException

    try:
        return question()
    except MlflowException as error:
        if error.error_code == code:
            return None
        raise
