"""Everything a report shows, read once through the verifying readers; what cannot be read says why.

A dataset folder is checked byte by byte against its manifest and then reduced to its manifest, its keys and labels,
and a few pictures. An envelope is shown only as far as its signature holds: one that does not verify is marked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from assay import canonical
from assay.data.dataset import Dataset
from assay.data.findings import Finding, read_findings
from assay.data.manifest import Manifest
from assay.errors import AssayError, Refused, UnfitInput
from assay.estimate import Estimate
from assay.evidence import Evidence, payload_id
from assay.keyring import Keyring, Role
from assay.report.inputs import ReportInputs
from assay.report.samples import Samples, clean_samples, removed_samples
from assay.report.verdicts import Decision, read_decision
from assay.signing import MAX_ENVELOPE_BYTES, peek, unseal
from assay.workspace import Workspace

T = TypeVar("T")

__all__ = ["Facts", "Part", "Reading", "Sealed", "gather"]


@dataclass(frozen=True)
class Reading(Generic[T]):
    """What came of reading one input.

    Fields:
        value: what was read, or None.
        problem: why it could not be read; empty when it was read, or was not given.
    """

    value: T | None = None
    problem: str = ""

    @property
    def why(self) -> str:
        """One sentence for a section that has nothing to show."""
        return f"It could not be read: {self.problem}" if self.problem else "This run did not provide it."


@dataclass(frozen=True)
class Part:
    """One dataset folder, verified.

    Fields:
        manifest: as loaded.
        keys: columns ``batch``, ``row``, ``label``.
        findings: of a quarantine.
        samples: pictures of a few records.
    """

    manifest: Manifest
    keys: pa.Table
    findings: tuple[Finding, ...] = ()
    samples: Samples = field(default_factory=Samples)


@dataclass(frozen=True)
class Sealed(Generic[T]):
    """One envelope.

    Fields:
        id: of its statement, without what only says when and where.
        subjects: SHA-256 by name.
        body: the statement's content, typed.
        run: when and where.
        signers: ids of the keys whose signatures hold.
        assurance: the least of theirs.
        signed: it carries a signature, whether or not that holds.
        doubt: why it counts as unverified; empty when it is verified.
    """

    id: str
    subjects: Mapping[str, str]
    body: T
    run: Mapping[str, Any]
    signers: tuple[str, ...] = ()
    assurance: str = ""
    signed: bool = False
    doubt: str = ""

    @property
    def verified(self) -> bool:
        """A key of the right role signed it."""
        return not self.doubt


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The inputs of `assay.report.inputs.ReportInputs`, read."""

    dataset: Reading[Part]
    ingest_quarantine: Reading[Part]
    kept: Reading[Part]
    sanitize_quarantine: Reading[Part]
    filtered: Reading[Part]
    filter_quarantine: Reading[Part]
    scores: Reading[pa.Table]
    outcomes: Reading[pa.Table]
    evidence: Reading[Sealed[Evidence]]
    decision: Reading[Sealed[Decision]]
    promotion: Reading[Sealed[dict[str, Any]]]
    extra: Mapping[str, Estimate]
    version: str

    @property
    def problems(self) -> dict[str, str]:
        """What was given but could not be read, by name."""
        readings = {name: value for name, value in vars(self).items() if isinstance(value, Reading)}
        return {name: reading.problem for name, reading in readings.items() if reading.problem}


def gather(inputs: ReportInputs, workspace: Workspace) -> Facts:
    """Read every input; never raises for one that is missing, broken or forged."""
    keyring = _attempt(lambda path: Keyring.load(path), workspace.keyring_path).value or Keyring()
    removed = _attempt(_quarantine, inputs.filter_quarantine)
    wanted = removed.value.samples.labels if removed.value else ()
    promotion = _attempt(lambda path: _sealed(path, keyring, "promotion", "promoter", _predicate), inputs.promotion)
    return Facts(
        dataset=_attempt(_part, inputs.dataset),
        ingest_quarantine=_attempt(_quarantine, inputs.ingest_quarantine),
        kept=_attempt(_part, inputs.kept),
        sanitize_quarantine=_attempt(_quarantine, inputs.sanitize_quarantine),
        filtered=_attempt(lambda path: _part(path, wanted), inputs.filtered),
        filter_quarantine=removed,
        scores=_attempt(lambda path: _parquet(path, {"record_id"}), inputs.scores),
        outcomes=_attempt(lambda path: _parquet(path, {"record_id", "label", "clean_correct"}), inputs.outcomes),
        evidence=_attempt(
            lambda path: _sealed(path, keyring, "evidence", "evaluator", Evidence.from_statement), inputs.evidence
        ),
        decision=_attempt(lambda path: _sealed(path, keyring, "decision", "evaluator", read_decision), inputs.decision),
        promotion=promotion,
        extra=inputs.extra,
        version=_version(promotion.value, workspace) if promotion.value else "",
    )


def _attempt(reader: Callable[[Path], T], path: Path | None) -> Reading[T]:
    if path is None:
        return Reading()
    try:
        return Reading(reader(path))
    except AssayError as error:
        return Reading(problem=str(error))
    except (OSError, pa.ArrowException, AttributeError, KeyError, TypeError, ValueError) as error:
        return Reading(problem=f"{type(error).__name__}: {error}")


def _loaded(path: Path) -> Dataset:
    """A verified dataset whose history, which no digest of the records covers, has the shape of one."""
    dataset = Dataset.load(path)
    for source, reasons in dataset.manifest.history.removed.items():
        if not all(isinstance(count, int) and isinstance(reason, str) for reason, count in reasons.items()):
            raise UnfitInput(str(path), f"removals of {source} that are no counts", "counts by reason")
    return dataset


def _part(path: Path, wanted: tuple[int, ...] = ()) -> Part:
    dataset = _loaded(path)
    samples = clean_samples(dataset, wanted) if wanted else Samples()
    return Part(dataset.manifest, dataset.table.select(["batch", "row", "label"]), samples=samples)


def _quarantine(path: Path) -> Part:
    dataset, file = _loaded(path), path / "findings.parquet"
    findings = tuple(read_findings(file.read_bytes(), str(file))) if file.exists() else ()
    told = canonical.file_digest(file) if findings else ""
    if findings and dataset.manifest.history.findings not in ("", told):
        raise UnfitInput(str(file), f"findings with SHA-256 {told[:12]}", "those that the manifest names")
    samples = removed_samples(dataset, findings)
    return Part(dataset.manifest, dataset.table.select(["batch", "row", "label"]), findings, samples)


def _parquet(path: Path, columns: set[str]) -> pa.Table:
    table = pq.read_table(path)
    if not columns <= set(table.column_names):
        raise UnfitInput(str(path), f"columns {table.column_names}", f"the columns {sorted(columns)} too")
    return table


def _sealed(path: Path, keyring: Keyring, kind: str, role: Role, reader: Callable[[Mapping[str, Any]], T]) -> Sealed[T]:
    data, where = canonical.read_bytes(path, MAX_ENVELOPE_BYTES), f"{kind} envelope"
    document = peek(data, where)
    signers: tuple[str, ...] = ()
    assurance = doubt = ""
    signed = bool(canonical.loads(data, where)["signatures"])
    try:
        opened = unseal(data, keyring, kind=kind, role=role, where=where)
        document, signers, assurance = opened.statement, opened.keyids, opened.assurance
    except Refused as refused:
        doubt = str(refused) if signed else "It is not signed."
    run = document["predicate"].get("run", {})
    return Sealed(
        id=payload_id(document),
        subjects={entry["name"]: entry["digest"]["sha256"] for entry in document["subject"]},
        body=reader(document),
        run=run if isinstance(run, dict) else {},
        signers=signers,
        assurance=assurance,
        signed=signed,
        doubt=doubt,
    )


def _predicate(document: Mapping[str, Any]) -> dict[str, Any]:
    body = dict(document["predicate"])
    target = body["target"]
    return body | {"target": {"model": str(target["model"]), "alias": str(target["alias"])}}


def _version(promotion: Sealed[dict[str, Any]], workspace: Workspace) -> str:
    """The registered version that the ledger's journal names for a promotion, or nothing."""
    target, sequence = promotion.body["target"], promotion.body.get("sequence")
    if not promotion.verified or not isinstance(sequence, int):
        return ""
    try:
        name = f"journal/{target['model']}@{target['alias']}/{sequence:08d}.json"
        return str(canonical.loads(workspace.ledger.get(name), name)["version"])
    except (AssayError, KeyError, TypeError):
        return ""
