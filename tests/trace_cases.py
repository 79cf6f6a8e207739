"""What the tests of trace and contain share: a ledger with two runs, one bad supplier, three promotions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from lineage_cases import dataset
from promotion_cases import Candidate, policy, with_store

from assay import canonical, lineage
from assay.config.root import Target
from assay.data.dataset import Dataset
from assay.data.findings import Finding, findings_bytes, split, tally
from assay.ledger import put_document
from assay.models.record import put_model
from assay.models.spec import SPEC, Trained, read_spec, spec_bytes
from assay.workspace import Workspace

CHAMPION, CANARY = Target(model="digits", alias="champion"), Target(model="digits", alias="canary")
REFUSED = Finding("bad/1:99", "reader", 0.0, "not_a_number", "reject")


@dataclass(frozen=True)
class Story:
    """The ledger, and what is what in it.

    ``bad/1`` and ``good/1`` are in what ``old`` and ``other`` learned from; sanitize took ``lost/1`` and ``bad/1:5``
    out, ingest refused ``bad/1:99``; ``new`` learned from ``good/1`` alone. ``old`` was champion, then ``new``;
    ``other`` is the canary.
    """

    workspace: Workspace
    ingested: Dataset
    holdout: Dataset
    kept: Dataset
    quarantined: Dataset
    clean: Dataset
    old: Candidate
    new: Candidate
    other: Candidate


@contextmanager
def environment(home: Path) -> Iterator[Workspace]:
    """A workspace of its own, which the environment names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_HOME", str(home))
        for name in ("ASSAY_LEDGER", "ASSAY_KEYS", "ASSAY_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
            patch.delenv(name, raising=False)
        workspace = Workspace.from_env()
        with_store(workspace)
        yield workspace


def tell(folder: Path) -> Story:
    """Write the story's ledger."""
    with environment(folder / ".assay") as workspace:
        digest = canonical.sha256(findings_bytes([REFUSED]))
        ingested = dataset({"bad/1": 6, "good/1": 6, "lost/1": 2}, removed=tally([REFUSED]), findings=digest)
        holdout = dataset({"trusted/1": 4}, role="holdout")
        with lineage.step("ingest", "r1", workspace) as record:
            record.finds([REFUSED])
            for batch in ("bad/1", "good/1", "lost/1", "trusted/1"):
                bind_batch(workspace, batch)
                record.reads("batch", "0" * 64, batch)
            record.makes(holdout, "holdout")
            record.makes(ingested, "training")
        parts = split(ingested, findings(), step="sanitize", parameters={})
        with lineage.step("sanitize", "r1", workspace) as record:
            record.uses(ingested, "training")
            record.finds(parts.findings)
            record.makes(parts.quarantined, "quarantine")
            record.makes(parts.kept, "training")
        clean = dataset({"good/1": 6})
        with lineage.step("ingest", "r2", workspace) as record:
            record.makes(clean, "training")
        old = promoted(workspace, folder / "old", parts.kept, holdout, CHAMPION, "r1")
        other = promoted(workspace, folder / "other", parts.kept, holdout, CANARY, "r1")
        new = promoted(workspace, folder / "new", clean, holdout, CHAMPION, "r2")
        return Story(workspace, ingested, holdout, parts.kept, parts.quarantined, clean, old, new, other)


def findings() -> list[Finding]:
    return [
        Finding("bad/1:0", "range", 2.0, "far_out", "flag"),
        Finding("bad/1:5", "range", 3.0, "out_of_range", "quarantine"),
        Finding("lost/1:0", "duplicate", 1.0, "copy", "quarantine"),
        Finding("lost/1:1", "duplicate", 1.0, "copy", "quarantine"),
        Finding("good/1:0", "duplicate", 1.0, "copy", "flag"),
    ]


def bind_batch(workspace: Workspace, name: str) -> None:
    source, batch = name.split("/")
    document = {"schema": "assay.batch/v1", "source": source, "batch": batch, "sha256": "0" * 64, "files": []}
    put_document(workspace.ledger, f"batches/{name}.json", document)


def bind_model(workspace: Workspace, name: str, trained_on: str) -> str:
    """A model of which the ledger holds the record and the one file that trace reads; returns its digest."""
    spec = canonical.dumps({"name": name, "trained": {"dataset": trained_on}})
    files = {"model.json": canonical.sha256(spec)}
    digest = canonical.tree_digest(files)
    document = {"schema": "assay.model-record/v1", "model": digest, "files": files, "dataset": trained_on}
    workspace.ledger.put(f"models/{digest}/model.json", spec)
    put_document(workspace.ledger, f"models/{digest}.json", document | {"method": "", "threat": ""})
    return digest


def decided(workspace: Workspace, folder: Path, data: Dataset, holdout: Dataset, target: Target, run: str) -> Candidate:
    """A model trained on data, measured on a hold-out, and found good enough for a target."""
    folder.mkdir(parents=True)
    subjects = {"holdout": holdout.manifest.digest, "dataset": data.manifest.digest}
    made = Candidate(workspace, folder, folder.name.encode(), subjects=subjects)
    trained = Trained(method="cross_entropy", dataset=data.manifest.digest)
    spec = read_spec(made.model).model_copy(update={"trained": trained})
    (made.model / SPEC).write_bytes(spec_bytes(spec, folder.name.encode(), b"golden"))
    with lineage.step("train", run, workspace) as record:
        record.uses(data, "training")
        made.digest = put_model(record, made.model, spec)
    made.evidence = replace(made.evidence, subjects=made.evidence.subjects | {"model": made.digest})
    made.write_evidence()
    assert made.gate(policy(), target, run=run)["decision"] == "promote"
    return made


def promoted(
    workspace: Workspace, folder: Path, data: Dataset, holdout: Dataset, target: Target, run: str
) -> Candidate:
    """A model as of `decided`, promoted."""
    made = decided(workspace, folder, data, holdout, target, run)
    made.promote(target, run=run)
    return made
