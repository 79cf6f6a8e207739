"""``assay merge-evidence``: all parts of an evaluation become the evidence that one machine would have made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._evidence import lines, outcomes_beside, records_of
from assay.cli._shared import Json, answer

__all__ = ["command"]


def command(
    parts: Annotated[list[Path], typer.Argument(help="What assay evaluate --shard wrote, one file a shard.")],
    model: Annotated[Path, typer.Option(help="Model folder, the one that was measured.")],
    data: Annotated[Path, typer.Option(help="Dataset folder, the one it was measured on.")],
    out: Annotated[Path, typer.Option(help="Evidence to write, *.dsse.json.")],
    records: Annotated[
        list[str] | None,
        typer.Option(help="NAME=DATASET: where records that aspects ask for lie here; repeat for more."),
    ] = None,
    outcomes: Annotated[Path | None, typer.Option(help="Parquet to write, one row a record.")] = None,
    page: Annotated[Path | None, typer.Option(help="HTML page to write.")] = None,
    as_json: Json = False,
) -> None:
    """Make evidence of all parts of one evaluation; it has the same id as on one machine."""
    from assay.data.files import require_places
    from assay.evaluate.merge import merge_evidence

    outcomes = outcomes or outcomes_beside(out)
    require_places(out, outcomes, page)
    document = merge_evidence(
        parts,
        model,
        data,
        evidence=out,
        outcomes=outcomes,
        page=page,
        sets=records_of(records),
    )
    answer(document, as_json, lines(document))
