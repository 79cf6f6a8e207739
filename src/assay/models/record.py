"""A model in the ledger: what it is, and its files."""

from __future__ import annotations

from pathlib import Path

from assay import canonical
from assay.ledger import put_document, put_folder
from assay.lineage import StepRecord
from assay.models.spec import ModelSpec

SCHEMA = "assay.model-record"

__all__ = ["put_model"]


def put_model(record: StepRecord, folder: Path, spec: ModelSpec) -> str:
    """Bind a model folder and its record in the ledger, and note it as written by the step; returns its digest."""
    trained, files = spec.trained, canonical.tree_files(folder)
    digest = canonical.tree_digest(files)
    put_folder(record.ledger, f"models/{digest}", folder)
    document = {
        "schema": f"{SCHEMA}/v1",
        "model": digest,
        "files": files,
        "dataset": trained.dataset,
        "content_digest": trained.content_digest,
        "method": trained.method,
        "threat": trained.threat,
        "seed": trained.config.get("seed", 0),
        "code": trained.code,
        "image": trained.image,
    }
    put_document(record.ledger, f"models/{digest}.json", document)
    record.writes("model", digest)
    return digest
