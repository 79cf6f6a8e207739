"""Class sums of some blocks on disk: what one machine hands to the one that joins them.

A safetensors file. Its tensors are mean and scatter by ``<height>/<place>/<label>`` of the tree (`streaming`), its
metadata one canonical JSON document:

    schema, records, width, block   of the whole file of features
    labels                          SHA-256 of the labels
    blocks                          SHA-256 of the features of every block that went in
    counts                          records by ``<height>/<place>/<label>``
    sums                            SHA-256 over the tensors

So sums of other features, other labels or other blocks are told before they are joined, or as the records are scored.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from assay import canonical
from assay.data.files import write_file
from assay.errors import UnfitInput
from assay.filters import Floats, Labels, streaming
from assay.filters.streaming import ClassSum, Moments, Node, block_count

SCHEMA, KEY = "assay.class-sums", "assay"

__all__ = ["State", "block_digest", "joined", "labels_digest", "read_state", "state_of"]


@dataclass(frozen=True)
class State:
    """Sums of some blocks, and what they are sums of.

    Fields:
        records, width: of the whole file of features.
        labels: SHA-256 of all labels.
        blocks: SHA-256 of the features of each block that went in, by number.
        moments: the sums.
        origin: the file it was read from, for errors.
    """

    records: int
    width: int
    labels: str
    blocks: Mapping[int, str]
    moments: Moments
    origin: str = "state"

    def write(self, path: Path) -> None:
        """Write the file whole."""
        tensors: dict[str, Floats] = {}
        counts: dict[str, int] = {}
        for (height, place), sums in self.moments.nodes.items():
            for label, one in sums.items():
                name = f"{height}/{place}/{label}"
                counts[name] = one.count
                tensors |= {f"{name}/mean": one.mean, f"{name}/scatter": np.ascontiguousarray(one.scatter)}
        document = {
            "schema": f"{SCHEMA}/v1",
            "records": self.records,
            "width": self.width,
            "block": streaming.BLOCK,
            "labels": self.labels,
            "blocks": {str(block): digest for block, digest in self.blocks.items()},
            "counts": counts,
            "sums": _digest(tensors),
        }
        write_file(path, save(tensors, metadata={KEY: canonical.dumps(document).decode()}))


def state_of(file: Path, labels: Labels, blocks: Iterable[int]) -> State:
    """The state of some blocks of a file of features; see `streaming.moments`."""
    chosen = list(blocks)
    found = streaming.moments(file, labels, chosen)
    digests = {block: block_digest(file, labels, block) for block in chosen}
    return State(len(labels), streaming.width_of(file, labels), labels_digest(labels), digests, found)


def labels_digest(labels: Labels) -> str:
    """SHA-256 of the labels, as little-endian int64."""
    return canonical.sha256(np.ascontiguousarray(labels, dtype="<i8").tobytes())


def block_digest(file: Path, labels: Labels, block: int) -> str:
    """SHA-256 of the features of one block, as little-endian float64."""
    return canonical.sha256(np.ascontiguousarray(streaming.rows_of(file, labels, block), dtype="<f8").tobytes())


def read_state(path: Path, file: Path, labels: Labels) -> State:
    """Read a state of the features in a file, for so many labels.

    Raises:
        UnfitInput: a broken file, or sums of other features or labels: names what differs.
    """
    try:
        with safe_open(path, framework="numpy") as handle:
            metadata = (handle.metadata() or {}).get(KEY, "")
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UnfitInput(str(path), f"{type(error).__name__}: {error}", "class sums of score-features") from error
    document = canonical.require_schema(canonical.loads(metadata, str(path)), SCHEMA, str(path))
    width, answers = streaming.width_of(file, labels), labels_digest(labels)
    need = {
        "records": len(labels),
        "width": width,
        "block": streaming.BLOCK,
        "labels": answers,
        "sums": _digest(tensors),
    }
    for name, value in need.items():
        if document.get(name) != value:
            raise UnfitInput(f"{path}: {name}", str(document.get(name))[:80], str(value))
    try:
        blocks = {int(block): str(digest) for block, digest in document["blocks"].items()}
        nodes = _nodes(document["counts"], tensors, width)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnfitInput(str(path), f"{type(error).__name__}: {error}", "a sum for every count") from error
    found = State(len(labels), width, answers, blocks, Moments(nodes), str(path))
    _require_counts(found, labels, path)
    return found


def joined(states: Iterable[State], records: int) -> State:
    """All states of one file of features as one; of those read so far only what has not joined yet is in memory.

    Raises:
        UnfitInput: none, blocks that are missing, or one that is in two of them: says which, and where.
    """
    found: State | None = None
    owner: dict[int, str] = {}
    for state in states:
        doubled = sorted(owner.keys() & state.blocks.keys())
        if doubled:
            there = f"block {doubled[0]} twice: {owner[doubled[0]]} has it too"
            raise UnfitInput(state.origin, there, "each shard once")
        owner |= dict.fromkeys(state.blocks, state.origin)
        moments = Moments.joined([found.moments if found else Moments({}), state.moments])
        found = replace(state, blocks={**(found.blocks if found else {}), **state.blocks}, moments=moments)
    if found is None:
        raise UnfitInput("states", "none", "one a shard")
    missing = [block for block in range(block_count(records)) if block not in owner]
    if missing:
        raise UnfitInput(
            "states",
            f"{len(owner)} blocks, none of them {_spelled(missing)}",
            f"all {block_count(records)}, each once",
            "Sum the shards that are missing.",
        )
    found.moments.require_whole(records)
    return found


def _spelled(blocks: list[int]) -> str:
    """Blocks as stretches: 3 to 6, 9."""
    ends = [at for at, (one, other) in enumerate(itertools.pairwise(blocks), 1) if other != one + 1]
    runs = [blocks[first:last] for first, last in zip([0, *ends], [*ends, len(blocks)], strict=True)]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _nodes(counts: Mapping[str, int], tensors: Mapping[str, Floats], width: int) -> dict[Node, dict[int, ClassSum]]:
    nodes: dict[Node, dict[int, ClassSum]] = {}
    for name, count in counts.items():
        height, place, label = map(int, name.split("/"))
        mean, scatter = tensors[f"{name}/mean"], tensors[f"{name}/scatter"]
        if (mean.shape, scatter.shape) != ((width,), (width, width)) or {mean.dtype, scatter.dtype} != {np.dtype("f8")}:
            raise ValueError(f"{name}: {mean.dtype} {mean.shape}, {scatter.dtype} {scatter.shape}")
        if not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
            raise ValueError(f"{name}: NaN or infinity")
        nodes.setdefault((height, place), {})[label] = ClassSum(int(count), mean, scatter)
    return nodes


def _require_counts(found: State, labels: Labels, path: Path) -> None:
    """Every node counts the records of its blocks, class by class, and every block has its digest."""
    covered: set[int] = set()
    for (height, place), sums in found.moments.nodes.items():
        if not 0 <= height < 64 or place < 0 or (place + 1) << height > block_count(len(labels)):
            raise UnfitInput(f"{path}: node {height}/{place}", "no such blocks", f"of {block_count(len(labels))}")
        blocks = range(place << height, (place + 1) << height)
        rows = labels[blocks.start * streaming.BLOCK : blocks.stop * streaming.BLOCK]
        kinds, need = np.unique(rows, return_counts=True)
        if {label: one.count for label, one in sums.items()} != dict(zip(kinds.tolist(), need.tolist(), strict=True)):
            raise UnfitInput(f"{path}: node {height}/{place}", "other counts", "those of the labels")
        covered |= set(blocks)
    if covered != set(found.blocks):
        raise UnfitInput(f"{path}: blocks", f"{len(found.blocks)} digests", f"one for each of {len(covered)}")


def _digest(tensors: Mapping[str, Any]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(f"{name} {tensors[name].dtype.str} {tensors[name].shape}\n".encode())
        total.update(np.ascontiguousarray(tensors[name]).tobytes())
    return total.hexdigest()
