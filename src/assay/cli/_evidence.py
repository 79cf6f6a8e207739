"""What the verbs that make evidence share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["lines", "outcomes_beside", "records_of"]


def outcomes_beside(evidence: Path) -> Path:
    """Where the outcomes go unless one says: beside the evidence."""
    return evidence.parent / f"{evidence.name.removesuffix('.json').removesuffix('.dsse')}.outcomes.parquet"


def records_of(given: Iterable[str] | None) -> dict[str, str]:
    """Paths of datasets by name, from ``NAME=DATASET``.

    Raises:
        UnfitInput: another form.
    """
    return dict(map(_records, given or ()))


def lines(document: dict[str, Any]) -> list[str]:
    """The answer for people."""
    from assay.estimate import Estimate

    width = max(map(len, document["estimates"]), default=0)
    estimates = [f"  {name:<{width}}  {Estimate.from_json(value)}" for name, value in document["estimates"].items()]
    missed = [name for name, said in document["soundness"].items() if said == "misses"]
    sound = "sound" if document["sound"] else f"NOT SOUND, robustness is not known: {', '.join(missed)}"
    return [*estimates, sound, f"evidence {document['evidence_id'][:12]} in {document['evidence']}"]


def _records(text: str) -> tuple[str, str]:
    from assay.errors import UnfitInput

    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise UnfitInput("--records", repr(text), "NAME=DATASET, such as trusted=calibration")
    return name, path
