"""What the ledger says, verified document by document, in the shape a walk needs.

A manifest, step and list of findings carry the SHA-256 of their bytes in their name; a model's name is the digest of
its list of files, one of which says what it was trained on; evidence, decisions and promotions are signed. What does
not hold is kept out and listed under ``problems``, so that an answer never silently rests on, or lacks, a document that
somebody changed. An envelope whose signature cannot be verified with the given keys stays in, marked: an incident is no
time to hide edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay import canonical
from assay.data.dataset import record_list_root
from assay.data.findings import REMOVING, Finding, read_findings
from assay.data.parquet import table_in
from assay.data.records import RecordId
from assay.errors import AssayError, UnfitInput
from assay.evidence import payload_id
from assay.keyring import Keyring, Role
from assay.ledger import Ledger
from assay.signing import peek, unseal
from assay.trace.ref import Scope

SIGNED: dict[str, tuple[str, Role]] = {
    "evidence": ("evidence", "evaluator"),
    "decisions": ("decision", "evaluator"),
    "promotions": ("promotion", "promoter"),
    "incidents": ("incident", "evaluator"),
}

__all__ = ["Envelope", "Index", "Step", "place_of"]


@dataclass(frozen=True)
class Envelope:
    """A statement from the ledger.

    Fields:
        name: in the ledger.
        id: of the statement.
        subjects: SHA-256 by name.
        predicate: what it says.
        verified: whether a signature of the right role holds.
    """

    name: str
    id: str
    subjects: Mapping[str, str]
    predicate: Mapping[str, Any]
    verified: bool


@dataclass(frozen=True)
class Step:
    """What one step of a run read and wrote: pairs of kind and name, a digest but for batches."""

    name: str
    run: str
    step: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]


@dataclass
class Index:
    """The documents of a ledger.

    Fields:
        ledger: where they are.
        keyring: whose signatures count.
        batches: document of every batch, by ``<source>/<batch>``.
        histories: of every dataset, by manifest digest, with its number of ``records`` and its ``content`` added.
        models: record of every model, by digest.
        envelopes: by family and id; promotions in order of target and sequence.
        versions: registered version by promotion id.
        steps: of every run.
        problems: ledger name and reason of each document that does not hold.
    """

    ledger: Ledger
    keyring: Keyring
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    histories: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    envelopes: dict[str, dict[str, Envelope]] = field(default_factory=lambda: {family: {} for family in SIGNED})
    versions: dict[str, tuple[str, str]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)
    _lists: dict[str, pa.Table | None] = field(default_factory=dict)

    @classmethod
    def read(cls, ledger: Ledger, keyring: Keyring) -> Index:
        """Read and verify every document of the ledger."""
        index = cls(ledger, keyring)
        readers = {
            "batches": index._batch,
            "manifests": index._manifest,
            "models": index._model,
            "journal": index._journal,
            "runs": index._step,
        } | dict.fromkeys(SIGNED, index._envelope)
        for name in ledger.names():
            family, *rest = name.split("/")
            if family not in readers or (family == "models" and len(rest) != 1):
                continue
            try:
                readers[family](name, ledger.get(name))
            except (AssayError, KeyError, TypeError, ValueError, AttributeError) as error:
                index._problem(name, f"{type(error).__name__}: {error}")
        index._require_whole()
        return index

    @cached_property
    def heads(self) -> dict[str, Envelope]:
        """The newest promotion of every target ``<model>@<alias>``: where the alias points."""
        newest = sorted(self.envelopes["promotions"].values(), key=lambda one: int(one.predicate["sequence"]))
        return {place_of(envelope): envelope for envelope in newest}

    @cached_property
    def incidents(self) -> dict[str, list[str]]:
        """Ids of the incidents that name a model, by its digest."""
        found: dict[str, list[str]] = {}
        for envelope in self.envelopes["incidents"].values():
            for digest in envelope.subjects.values():
                found.setdefault(digest, []).append(envelope.id)
        return found

    def version_of(self, promotion: Envelope) -> str:
        """``<name>/<version>`` of a promotion, or empty while the registry has none."""
        version, _ = self.versions.get(promotion.id, ("", ""))
        return f"{promotion.predicate['target']['model']}/{version}" if version else ""

    def records_of(self, digest: str, scope: Scope) -> int:
        """How many records of the scope a dataset holds."""
        history = self.histories[digest]
        shares = [share for share in history["sources"] if scope.takes(share["source"], share["batch"])]
        held = sum(int(share["records"]) for share in shares)
        if scope.row is None or not held:
            return held
        keys = self._record_list(digest)
        if keys is None:
            return held  # the list is gone or broken: the record may be in there, and the problem is listed
        mine = pc.and_(pc.equal(keys["batch"], f"{scope.source}/{scope.batch}"), pc.equal(keys["row"], scope.row))
        return int(pc.sum(mine).as_py() or 0)

    def removed(self, digest: str, scope: Scope) -> list[Finding]:
        """The findings for which records of the scope are not in a dataset that its parents, or batches, had."""
        history = self.histories[digest]
        if not history["findings"] or scope.source not in history["removed"]:
            return []
        name = f"findings/{history['findings']}.parquet"
        try:
            data = self.ledger.get(name)
            _require(canonical.sha256(data) == history["findings"], "bytes of another SHA-256")
            listed = read_findings(data, name)
        except AssayError as error:
            self._problem(name, str(error))
            return []
        return [
            finding
            for finding in listed
            if finding.action in REMOVING and scope.holds(RecordId.parse(finding.record_id))
        ]

    def _require_whole(self) -> None:
        """A dataset that another document names but that is not there could hide anything."""
        named = {parent for made in self.histories.values() for parent in made["parents"]}
        named |= {model["dataset"] for model in self.models.values() if model["dataset"]}
        known = {problem["name"] for problem in self.problems}
        for name in sorted(f"manifests/{digest}.json" for digest in named - self.histories.keys()):
            if name not in known:
                self._problem(name, "missing, but named by another document")

    def record_list_of(self, digest: str) -> str:
        """The ledger's name of the list of records of a dataset."""
        return f"records/{canonical.digest(self.histories[digest]['content'])}.parquet"

    def _record_list(self, digest: str) -> pa.Table | None:
        """Batch and row of every record, checked against the counts of the manifest; None when they do not agree."""
        name, history = self.record_list_of(digest), self.histories[digest]
        if name not in self._lists:
            try:
                keys = table_in(self.ledger.get(name), ["batch", "row"])
                counted = {entry["values"]: entry["counts"] for entry in keys["batch"].value_counts().to_pylist()}
                wanted = {f"{share['source']}/{share['batch']}": share["records"] for share in history["sources"]}
                _require(counted == wanted, "other records than the manifest counts")
                bound = history.get("record_list", "")  # empty in manifests of release 0.1
                _require(bound in ("", record_list_root(keys)), "other records than the manifest binds")
                self._lists[name] = keys
            except (AssayError, pa.ArrowException, OSError, KeyError) as error:
                self._problem(name, str(error))
                self._lists[name] = None
        return self._lists[name]

    def _problem(self, name: str, reason: str) -> None:
        problem = {"name": name, "reason": reason}
        if problem not in self.problems:
            self.problems.append(problem)

    def _batch(self, name: str, data: bytes) -> None:
        document = canonical.require_schema(canonical.loads(data, name), "assay.batch", name)
        full = f"{document['source']}/{document['batch']}"
        _require(name == f"batches/{full}.json", f"the document of batch {full}")
        self.batches[full] = document

    def _manifest(self, name: str, data: bytes) -> None:
        digest = _stem(name)
        _require(canonical.sha256(data) == digest, "bytes of another SHA-256")
        document = canonical.require_schema(canonical.loads(data, name), "assay.manifest", name)
        content = document["content"]
        self.histories[digest] = document["history"] | {"records": content["records"], "content": content}

    def _model(self, name: str, data: bytes) -> None:
        document = canonical.require_schema(canonical.loads(data, name), "assay.model-record", name)
        digest = _stem(name)
        _require(canonical.tree_digest(document["files"]) == digest, "files of another model")
        spec = self.ledger.get(f"models/{digest}/model.json")
        _require(canonical.sha256(spec) == document["files"]["model.json"], "a model.json of another SHA-256")
        trained = canonical.loads(spec, name)["trained"]
        _require(trained["dataset"] == document["dataset"], "another training dataset than its model.json")
        self.models[digest] = document

    def _step(self, name: str, data: bytes) -> None:
        document = canonical.require_schema(canonical.loads(data, name), "assay.step", name)
        _require(name.endswith(f"-{canonical.sha256(data)[:16]}.json"), "bytes of another SHA-256")
        _require(name.startswith(f"runs/{document['run']}/{document['step']}-"), "a step of another run")
        inputs, outputs = (tuple(_end(end) for end in document[side]) for side in ("inputs", "outputs"))
        self.steps.append(Step(name, document["run"], document["step"], inputs, outputs))

    def _journal(self, name: str, data: bytes) -> None:
        document = canonical.require_schema(canonical.loads(data, name), "assay.journal", name)
        self.versions[document["promotion"]] = (str(document["version"]), name)

    def _envelope(self, name: str, data: bytes) -> None:
        family = name.partition("/")[0]
        kind, role = SIGNED[family]
        try:
            statement, verified = unseal(data, self.keyring, kind=kind, role=role, where=name).statement, True
        except AssayError:
            statement, verified = peek(data, name), False
        made = payload_id(statement)
        _require(family == "promotions" or made == _stem(name), "a statement of another id")
        subjects = {entry["name"]: entry["digest"]["sha256"] for entry in statement["subject"]}
        envelope = Envelope(name, made, subjects, statement["predicate"], verified)
        if family == "promotions":
            target, sequence = name.split("/")[1:]
            _require(place_of(envelope) == target, "a promotion to another target")
            _require(int(sequence.partition(".")[0]) == envelope.predicate["sequence"], "another sequence")
        self.envelopes[family][made] = envelope


def place_of(promotion: Envelope) -> str:
    """The target of a promotion, ``<model>@<alias>``."""
    target = promotion.predicate["target"]
    return f"{target['model']}@{target['alias']}"


def _end(end: Mapping[str, str]) -> tuple[str, str]:
    """Kind and name of one end of a step; a batch is known by its name, which the step gives as context."""
    return end["kind"], end["context"] if end["kind"] == "batch" else end["digest"]


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].partition(".")[0]


def _require(holds: bool, got: str) -> None:
    if not holds:
        raise UnfitInput("ledger", got, "what its name says")
