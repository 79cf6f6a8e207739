"""Evidence on its way out: signed, bound in the ledger once, written whole."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from assay.attempts import charge
from assay.config.evaluate import EvaluateConfig
from assay.config.root import Target
from assay.data.files import write_file
from assay.errors import AssayError
from assay.evaluate.how import answer
from assay.evidence import KIND, Evidence
from assay.ledger import put_first
from assay.lineage import StepRecord
from assay.signing import seal, unseal
from assay.workspace import Workspace

REPEATED = timedelta(hours=1)

__all__ = ["Places", "deliver", "publish"]


@dataclass(frozen=True)
class Places:
    """The files of one evaluation.

    Fields:
        evidence: the signed envelope to write.
        outcomes: Parquet to write, one row a record.
        page: HTML to write, or None.
    """

    evidence: Path
    outcomes: Path
    page: Path | None = None


def publish(
    made: Evidence,
    rows: bytes,
    places: Places,
    record: StepRecord,
    config: EvaluateConfig,
    of: int,
    *,
    target: Target | None = None,
    write_page: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Charge the attempt, write the files, note all of it in the record; returns the answer of the step.

    Args:
        made: what was found.
        rows: what became of every record, as Parquet.
        places: of the files.
        record: of the step.
        config: what was asked for.
        of: records there are, of which all or the first were measured.
        target: whom the attempt is charged to; None where there is none.
        write_page: writes the page, where there is a place for it.
    """
    if target is not None and record.workspace.signers("evaluator"):
        charge(record.ledger, made, target)  # before anybody can read a number
    write_file(places.outcomes, rows)
    if places.page is not None and write_page is not None:
        write_page(places.page)
        record.shows(places.page)
    deliver(made, places.evidence, record.workspace)
    record.writes("evidence", made.id)
    record.metrics |= {name: estimate.value for name, estimate in made.estimates.items()}
    record.params |= {"threats": ",".join(config.threats), "seed": config.seed}
    return answer(places.evidence, made, of)


def deliver(evidence: Evidence, path: Path, workspace: Workspace) -> str:
    """Sign evidence, bind it in the ledger and write its envelope; returns the evidence id.

    The same measurement made twice is one: the ledger keeps the first envelope, and a step that is repeated within the
    hour writes that one again, so that an interrupted run ends with the same bytes. Later the new envelope is written:
    it has the same id, and its age is what a gate asks for. A first envelope whose signature does not count here stays
    where it is, unused. Unsigned evidence goes to the file alone: the ledger's name is for evidence that counts.
    """
    signers = workspace.signers("evaluator")
    data = seal(evidence.to_statement(), signers)
    if signers:
        first = put_first(workspace.ledger, f"evidence/{evidence.id}.dsse.json", data)
        write_file(path, first if _stands_for(first, evidence, workspace) else data)
    else:
        warnings.warn(
            f"evidence {evidence.id[:12]} is not signed: no evaluator key at {workspace.signer_uris['evaluator']}. "
            "The gate will say inconclusive; assay init makes a key.",
            stacklevel=2,
        )
        write_file(path, data)
    return evidence.id


def _stands_for(data: bytes, evidence: Evidence, workspace: Workspace) -> bool:
    """Whether an envelope is this evidence, signed by somebody who may, and not long ago."""
    try:
        first = Evidence.from_statement(unseal(data, workspace.keyring, kind=KIND, role="evaluator").statement)
    except AssayError:
        return False
    if first.id != evidence.id or first.measured_at is None or evidence.measured_at is None:
        return False
    return evidence.measured_at - first.measured_at <= REPEATED
