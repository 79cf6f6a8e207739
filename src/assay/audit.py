"""Every mismatch between MLflow and the signed record: what somebody moved, edited, deleted or never earned.

MLflow lets anybody with access move an alias, edit tags and metrics of a finished run, and overwrite artifacts. No
decision reads them; this finds them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from assay import canonical
from assay.config.root import Target
from assay.errors import AssayError
from assay.evidence import Evidence, payload_id
from assay.promotions import Promotion, at_place, history, journal_name, name_of, place_of, places
from assay.registry import TAG, Registry, tags_of
from assay.signing import unseal
from assay.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["Mismatch", "audit"]


@dataclass(frozen=True)
class Mismatch:
    """One thing that is not as the signed record says.

    Fields:
        where: an alias, a version, a ledger name or a run.
        got: what is there.
        need: what the signed record says.
    """

    where: str
    got: str
    need: str


def audit(workspace: Workspace) -> dict[str, Any]:
    """Compare MLflow's registry and runs, and the ledger itself, with the signed promotions.

    Returns:
        ``mismatches``, each with ``where``, ``got`` and ``need``, and ``checked``: how many promotions, versions and
        aliases were looked at.

    Raises:
        Unreachable: MLflow does not answer.
    """
    registry = Registry(workspace)
    registry.probe()
    found: list[Mismatch] = []
    promotions: list[Promotion] = []
    for place in places(workspace.ledger):
        try:
            promotions += history(workspace.ledger, workspace.keyring, at_place(place))
        except AssayError as error:
            found.append(Mismatch(f"ledger promotions/{place}", str(error), "an unbroken, signed chain"))
    for made in promotions:
        found += _record(made, workspace, registry)
    models = sorted({made.target.model for made in promotions})
    versions = {model: registry.all_versions(model) for model in models}
    aliases = {model: registry.aliases(model) for model in models}
    for model in models:
        own = [made for made in promotions if made.target.model == model]
        found += _versions(model, own, versions[model], registry)
        found += _aliases(model, own, versions[model], aliases[model])
    counts = {
        "promotions": len(promotions),
        "versions": sum(map(len, versions.values())),
        "aliases": sum(map(len, aliases.values())),
    }
    return {"mismatches": [asdict(one) for one in found], "checked": counts}


def _record(made: Promotion, workspace: Workspace, registry: Registry) -> Iterator[Mismatch]:
    """What the ledger holds behind a promotion, and the metrics of the run that measured it."""
    where = f"ledger {name_of(made.target, made.sequence)}"
    try:
        statements = {
            kind: unseal(
                workspace.ledger.get(f"{folder}/{named}.dsse.json"),
                workspace.keyring,
                kind=kind,
                role="evaluator",
                where=f"{folder}/{named}",
            ).statement
            for kind, folder, named in (
                ("evidence", "evidence", made.evidence),
                ("decision", "decisions", made.decision),
            )
        }
        workspace.ledger.get(journal_name(made))
    except AssayError as error:
        yield Mismatch(where, str(error), "signed evidence, signed decision and journal")
        return
    ids = {kind: payload_id(statement) for kind, statement in statements.items()}
    need = {"evidence": made.evidence, "decision": made.decision}
    if ids != need or statements["decision"]["predicate"].get("decision") != "promote":
        yield Mismatch(where, f"evidence and decision {ids}", f"a decision to promote, {need}")
    files = _ledger_files(made.model, workspace)
    if files != made.model:
        yield Mismatch(f"ledger models/{made.model[:12]}", f"files with digest {files[:12]}", made.model[:12])
    yield from _metrics(Evidence.from_statement(statements["evidence"]), registry)


def _ledger_files(model: str, workspace: Workspace) -> str:
    prefix, ledger = f"models/{model}/", workspace.ledger
    files = {name.removeprefix(prefix): canonical.sha256(ledger.get(name)) for name in ledger.names(prefix)}
    return canonical.tree_digest(files)


def _metrics(evidence: Evidence, registry: Registry) -> Iterator[Mismatch]:
    run = str(evidence.run.get("run_id", ""))
    for shown in registry.step_metrics(run, "evaluate") if run else ():
        for name, estimate in evidence.estimates.items():
            if name in shown and not math.isclose(shown[name], estimate.value, rel_tol=1e-9, abs_tol=1e-12):
                yield Mismatch(f"MLflow run of {run}: metric {name}", f"{shown[name]}", f"{estimate.value}")


def _versions(
    model: str, promotions: list[Promotion], versions: list[ModelVersion], registry: Registry
) -> Iterator[Mismatch]:
    by_id = {made.id: made for made in promotions if not made.is_rollback}
    seen: dict[str, str] = {}
    for version in versions:
        where = f"MLflow version {model}/{version.version}"
        made = by_id.get(version.tags.get(TAG, ""))
        if made is None:
            yield Mismatch(where, f"tag {TAG} {version.tags.get(TAG, 'missing')}", "a signed promotion")
            continue
        if made.id in seen:
            yield Mismatch(where, f"promotion {made.sequence} a second time", f"version {seen[made.id]} alone")
        seen.setdefault(made.id, str(version.version))
        for name, need in tags_of(made).items():
            if version.tags.get(name) != need:
                yield Mismatch(f"{where}: tag {name}", str(version.tags.get(name)), need)
        yield from _files(where, made, version, registry)
    for made in by_id.values():
        if made.id not in seen:
            yield Mismatch(f"MLflow {model}", f"no version of promotion {made.sequence}", "one")


def _files(where: str, made: Promotion, version: ModelVersion, registry: Registry) -> Iterator[Mismatch]:
    with TemporaryDirectory(prefix="assay-audit-") as temporary:
        try:
            got = canonical.tree_digest(canonical.tree_files(registry.download(version, Path(temporary))))
        except AssayError as error:
            got = str(error)
    if got != made.model:
        yield Mismatch(f"{where}: files", got, made.model)


def _aliases(
    model: str, promotions: list[Promotion], versions: list[ModelVersion], aliases: dict[str, str]
) -> Iterator[Mismatch]:
    numbers = {version.tags.get(TAG): str(version.version) for version in reversed(versions)}
    heads: dict[Target, Promotion] = {made.target: made for made in promotions}
    for target, head in heads.items():
        got, need = (
            aliases.get(target.alias, "no version"),
            numbers.get(head.origin, "the version of the last promotion"),
        )
        if got != need:
            yield Mismatch(f"MLflow alias {place_of(target)}", got, need)
    for alias in aliases.keys() - {target.alias for target in heads}:
        yield Mismatch(f"MLflow alias {model}@{alias}", f"version {aliases[alias]}", "no alias without a promotion")
