"""``assay score-features``: how suspicious records are whose features are in a file, of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli._shared import Json, answer

__all__ = ["command"]


def command(
    features: Annotated[Path, typer.Argument(help=".npy file of features, one row a record: what an encoder made.")],
    labels: Annotated[Path, typer.Option(help=".npy file of labels, whole numbers, one a record.")],
    out: Annotated[Path, typer.Option(help="Parquet file of scores to write; with --shard the shard's state.")],
    trusted: Annotated[Path | None, typer.Option(help=".npy file of features of trusted records.")] = None,
    trusted_labels: Annotated[Path | None, typer.Option(help=".npy file of their labels.")] = None,
    shard: Annotated[str, typer.Option(help="k/n: only sum the k-th of n shards, and write its state.")] = "",
    state: Annotated[
        list[Path] | None, typer.Option(help="What --shard wrote; repeat for every shard. Without, all is done here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score every record against the others of its class; the same scores from one machine and from any shards."""
    from assay.config.shard import Shard
    from assay.data.files import require_places
    from assay.errors import UnfitInput
    from assay.filters.score_features import score_features, sum_features

    require_places(out)
    if shard:
        if state or trusted or trusted_labels:
            raise UnfitInput("assay score-features", "--state or --trusted", "none of them with --shard")
        document = sum_features(features, labels, Shard.read(shard), out=out)
        done = document["records"]
        answer(document, as_json, [f"shard {shard}: {done['summed']} of {done['of']} records in {out}"])
        return
    if (trusted is None) != (trusted_labels is None):
        raise UnfitInput("assay score-features", "one of --trusted and --trusted-labels", "both or none")
    known = (trusted, trusted_labels) if trusted and trusted_labels else None
    document = score_features(features, labels, scores=out, states=state or (), trusted=known)
    answer(document, as_json, [f"{document['records']} records scored by {', '.join(document['detectors'])} in {out}"])
