"""Suspicion of records whose features are in a file, of any size: shards sum, one machine joins and scores.

The scores that `assay.filters.step` gives records in memory, of the two detectors that need no more than class sums,
for features that some encoder made. They are no decision: that needs all detectors, and trusted records on equal terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from assay import canonical, lineage
from assay.config.shard import Shard
from assay.data.files import write_file
from assay.errors import UnfitInput
from assay.filters import Floats, Labels, streaming
from assay.filters._state import block_digest, joined, read_state, state_of
from assay.filters.streaming import Moments, block_count

DIRECTIONS = 1
KIND = "class_sums"

__all__ = ["score_features", "score_features_step", "sum_features", "sum_features_step"]


def sum_features(features: Path, labels: Path, shard: Shard, *, out: Path) -> dict[str, Any]:
    """Write the class sums of one shard; `score_features` joins them.

    What an earlier run wrote of the same features and labels stays: whoever was interrupted asks for all shards again.

    Args:
        features: ``.npy`` (N, D) of float32 or float64; only the shard's own blocks are read.
        labels: ``.npy`` (N,) of whole numbers.
        shard: which stretch of blocks.
        out: safetensors file to write.

    Returns:
        state (path), shard, blocks, records {summed, of}, resumed (whether the sums were there).

    Raises:
        UnfitInput: files that do not fit each other, or features that are not finite.
    """
    given = read_labels(labels)
    stretch = shard.stretch(block_count(len(given)))
    there = _holds(out, features, given, stretch)
    if not there:
        with threadpool_limits(1):
            state_of(features, given, stretch).write(out)
    rows = min(stretch.stop * streaming.BLOCK, len(given)) - min(stretch.start * streaming.BLOCK, len(given))
    return {
        "state": str(out),
        "shard": str(shard),
        "blocks": len(stretch),
        "records": {"summed": rows, "of": len(given)},
        "resumed": there,
    }


def sum_features_step(features: str, labels: str, shard: str, *, state: str, run: str = "") -> dict[str, Any]:
    """`sum_features` as a pipeline calls it: everything as text, and on record."""
    with lineage.step("sum_features", run) as record:
        document = sum_features(Path(features), Path(labels), Shard.read(shard), out=Path(state))
        record.writes(KIND, canonical.file_digest(state), shard)
    return document


def score_features_step(
    features: str,
    labels: str,
    *,
    scores: str,
    states: Sequence[str] = (),
    trusted: tuple[str, str] | None = None,
    run: str = "",
) -> dict[str, Any]:
    """`score_features` as a pipeline calls it: everything as text, and on record."""
    given = {"features": features, "labels": labels}
    given |= dict(zip(("trusted features", "trusted labels"), trusted or (), strict=False))
    known = (Path(trusted[0]), Path(trusted[1])) if trusted else None
    with lineage.step("score_features", run) as record:
        for name, path in given.items():
            record.reads("file", canonical.file_digest(path), name)
        for state in states:
            record.reads(KIND, canonical.file_digest(state))
        document = score_features(
            Path(features), Path(labels), scores=Path(scores), states=[Path(state) for state in states], trusted=known
        )
        record.writes("scores", canonical.file_digest(scores))
    return document


def score_features(
    features: Path,
    labels: Path,
    *,
    scores: Path,
    states: Sequence[Path] = (),
    trusted: tuple[Path, Path] | None = None,
) -> dict[str, Any]:
    """Score every record, from the sums of all shards or, without any, from sums made here: the same bytes.

    Args:
        features: ``.npy`` (N, D) of float32 or float64; one block of it is in memory at a time.
        labels: ``.npy`` (N,) of whole numbers.
        scores: Parquet file to write: row, label, one column a detector.
        states: what `sum_features` wrote, one file a shard, in any order.
        trusted: features and labels of trusted records, for the detector that needs them.

    Returns:
        scores (path), records, width, classes {label: records}, detectors.

    Raises:
        UnfitInput: files that do not fit each other, features that are not finite, a state that is missing, doubled,
            broken, or of other features or labels.
    """
    given = read_labels(labels)
    width = streaming.width_of(features, given)
    with threadpool_limits(1):
        found = _joined(states, features, given) if states else streaming.moments(features, given)
        made: dict[str, Floats] = {"spectral": streaming.spectral(features, given, found, DIRECTIONS)}
        if trusted is not None:
            known, answers = _trusted(trusted, width)
            made["trusted_mahalanobis"] = streaming.trusted_mahalanobis(features, given, found, known, answers)
    write_file(scores, _bytes(given, made))
    kinds, counts = np.unique(given, return_counts=True)
    return {
        "scores": str(scores),
        "records": len(given),
        "width": width,
        "classes": {str(kind): int(count) for kind, count in zip(kinds, counts, strict=True)},
        "detectors": list(made),
    }


def read_labels(path: Path) -> Labels:
    """(N,) int64.

    Raises:
        UnfitInput: no such array, none at all, or no whole numbers.
    """
    array = _load(path)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array) or array.max() >= 2**53:
        raise UnfitInput(str(path), f"{array.dtype} {array.shape}", "whole numbers (N,), one a record")
    return array.astype(np.int64)


def _trusted(given: tuple[Path, Path], width: int) -> tuple[Floats, Labels]:
    features, labels = np.asarray(_load(given[0])), read_labels(given[1])
    if features.ndim != 2 or features.dtype.kind != "f" or features.shape != (len(labels), width):
        raise UnfitInput(str(given[0]), f"{features.dtype} {features.shape}", f"float ({len(labels)}, {width})")
    if not np.isfinite(features).all():
        raise UnfitInput(str(given[0]), "NaN or infinity", "finite numbers")
    return features.astype(np.float64), labels


def _load(path: Path) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise UnfitInput(str(path), f"{type(error).__name__}: {error}", "a .npy file") from error
    if not isinstance(array, np.ndarray):
        raise UnfitInput(str(path), type(array).__name__, "a .npy file")
    return array


def _holds(path: Path, features: Path, labels: Labels, stretch: range) -> bool:
    """Whether a file has the sums of just these blocks, as the features are now; what it is else may be replaced."""
    if not path.is_file():
        return False
    try:
        found = read_state(path, features, labels)
    except UnfitInput:
        return False
    return found.blocks == {block: block_digest(features, labels, block) for block in stretch}


def _joined(states: Sequence[Path], features: Path, labels: Labels) -> Moments:
    """The sums of all states, of the features that are scored.

    Raises:
        UnfitInput: a block of other features.
    """
    found = joined((read_state(path, features, labels) for path in states), len(labels))
    for block, digest in sorted(found.blocks.items()):
        if block_digest(features, labels, block) != digest:
            raise UnfitInput(f"{features}: block {block}", "other features than a state summed", "the same file")
    return found.moments


def _bytes(labels: Labels, scores: dict[str, Floats]) -> bytes:
    columns = {"row": pa.array(np.arange(len(labels))), "label": pa.array(labels)}
    columns |= {name: pa.array(each) for name, each in scores.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data
