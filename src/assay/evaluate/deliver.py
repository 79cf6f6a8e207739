"""Evidence on its way out: signed, bound in the ledger once, written whole."""

from __future__ import annotations

import warnings
from pathlib import Path

from assay.data.files import write_file
from assay.errors import AssayError
from assay.evidence import KIND, Evidence, payload_id
from assay.ledger import put_first
from assay.signing import seal, unseal
from assay.workspace import Workspace

__all__ = ["deliver"]


def deliver(evidence: Evidence, path: Path, workspace: Workspace) -> str:
    """Sign evidence, bind it in the ledger and write its envelope; returns the evidence id.

    The same measurement made twice is one: when its id is bound already, that first envelope is written, so that a
    repeated step gives the same bytes; but one whose signature does not count here stays where it is, unused. Unsigned
    evidence goes to the file alone: the ledger's name is for evidence that counts.
    """
    signers = workspace.signers("evaluator")
    data = seal(evidence.to_statement(), signers)
    if signers:
        first = put_first(workspace.ledger, f"evidence/{evidence.id}.dsse.json", data)
        write_file(path, first if _counts(first, evidence.id, workspace) else data)
    else:
        warnings.warn(
            f"evidence {evidence.id[:12]} is not signed: no evaluator key at {workspace.signer_uris['evaluator']}. "
            "The gate will say inconclusive; assay init makes a key.",
            stacklevel=2,
        )
        write_file(path, data)
    return evidence.id


def _counts(data: bytes, evidence_id: str, workspace: Workspace) -> bool:
    try:
        opened = unseal(data, workspace.keyring, kind=KIND, role="evaluator")
    except AssayError:
        return False
    return payload_id(opened.statement) == evidence_id
