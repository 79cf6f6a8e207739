"""The whole path on one machine: a configuration in, a decision and everything behind it out.

A run's id follows from its configuration and assay's code, so running again after an interruption goes on with the
same run: the ledger, the registry and MLflow end in the same state as without the interruption.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assay import canonical, versions
from assay.config import Config
from assay.data.manifest import Manifest
from assay.errors import UnfitInput
from assay.evidence import Evidence, payload_id, robust
from assay.ledger import Ledger
from assay.signing import peek
from assay.threat import ThreatModel
from assay.workspace import Workspace

Found = Mapping[tuple[str, str], Path]
STAGES = (("ingest", "dataset"), ("sanitize", "kept"), ("filter-poison", "kept"))  # the records, less and less of them

__all__ = ["Found", "exclusive", "run_folder", "run_id", "summary"]


def run_id(config: Config, pipeline: str, parameters: Mapping[str, Any]) -> str:
    """The id of the run of a pipeline with a configuration and parameters under this code."""
    key = {
        "pipeline": pipeline,
        "config": config.to_json(),
        "parameters": dict(parameters),
        "code": versions.code_digest(),
    }
    return f"{config.promote.model}-{canonical.digest(key)[:12]}"


def run_folder(workspace: Workspace, run: str) -> Path:
    """Where a local run keeps its log, its artifacts and its report."""
    return workspace.home / "runs" / run


@contextmanager
def exclusive(folder: Path) -> Iterator[Path]:
    """The run's folder, emptied of what an interrupted run left, for one process at a time.

    Raises:
        UnfitInput: another process is running it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UnfitInput(f"run {folder.name}", "a run that is going on", "one at a time", "Wait for it.") from error
        for child in folder.iterdir():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        yield folder


def summary(run: str, config: Config, found: Found, ledger: Ledger) -> dict[str, Any]:
    """What ``assay run --json`` says of a finished run, but for the report.

    Args:
        run: id of the run.
        config: its configuration.
        found: path of every artifact by task and output name.
        ledger: where promotions and their versions are.
    """
    stages = [_manifest(found[key]) for key in STAGES if key in found]
    evidence = Evidence.from_statement(peek(found["evaluate", "evidence"].read_bytes()))
    decision = peek(found["gate", "decision"].read_bytes())["predicate"]
    estimates = {name: estimate.to_json() for name, estimate in evidence.estimates.items()}
    primary = robust("robust_accuracy", ThreatModel.parse(config.evaluate.threats[0], _bounds(evidence)))
    if primary in estimates:
        estimates["robust_accuracy"] = estimates[primary]
    kept = dict.fromkeys((share.source for stage in stages for share in stage.history.sources), 0)
    for share in stages[-1].history.sources if stages else ():
        kept[share.source] += share.records
    return {
        "run_id": run,
        "decision": decision["decision"],
        "model": _model(config, evidence, found.get(("promote", "promotion")), ledger),
        "kept": kept,
        "quarantined": _merge(*(stage.history.removed for stage in stages)),
        "estimates": estimates,
        "rules": decision["rules"],
        "evidence_id": evidence.id,
        "sound": evidence.sound,
    }


def _manifest(folder: Path) -> Manifest:
    return Manifest.from_json(canonical.read(folder / "manifest.json"), str(folder))


def _bounds(evidence: Evidence) -> tuple[float, float]:
    """The box the evidence was measured in: that of any of its threats."""
    threats = evidence.measured.get("threats", {})
    low, high = next(iter(threats.values()))["bounds"] if threats else (0.0, 1.0)
    return float(low), float(high)


def _merge(*tallies: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Quarantined records by source and reason, over all steps."""
    merged: dict[str, dict[str, int]] = {}
    for tally in tallies:
        for source, reasons in tally.items():
            into = merged.setdefault(source, {})
            for reason, count in reasons.items():
                into[reason] = into.get(reason, 0) + count
    return merged


def _model(config: Config, evidence: Evidence, promotion: Path | None, ledger: Ledger) -> dict[str, Any]:
    """Name, digest and, once promoted, version and alias."""
    model: dict[str, Any] = {"name": config.promote.model, "digest": evidence.subjects["model"]}
    if promotion is None:
        return model | {"version": None, "alias": None}
    statement = peek(promotion.read_bytes())
    place = f"{config.promote.model}@{config.promote.alias}/{statement['predicate']['sequence']:08d}"
    journal = canonical.loads(ledger.get(f"journal/{place}.json"))
    return model | {
        "version": journal["version"],
        "alias": config.promote.alias,
        "promotion": payload_id(statement),
    }
