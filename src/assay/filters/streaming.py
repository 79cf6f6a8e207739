"""Scores of more records than fit into memory: class statistics as mergeable states, then scores block by block.

    states = [moments(file, labels, blocks) for blocks in shards]        anywhere, in any order, each resumable
    total = Moments.joined(states)
    scores = spectral(file, labels, total, directions=1)

A state holds count, mean and scatter of every class. Each fixed block of 4,096 records gives one, and two states are
merged only where they cover the two halves of one node of the binary tree over all blocks. So the arithmetic is the
same for one machine and for any shards of whole blocks, and the scores are equal to the last bit.

Reference: Chan, Golub and LeVeque. Updating Formulae and a Pairwise Algorithm for Computing Sample Variances. 1979.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.errors import UnfitInput
from assay.filters import Floats, Labels
from assay.filters._linear import principal
from assay.filters.trusted_mahalanobis import TrustedMahalanobis, within

BLOCK = 4096
Node = tuple[int, int]

__all__ = [
    "BLOCK",
    "ClassSum",
    "Moments",
    "block_count",
    "moments",
    "rows_of",
    "spectral",
    "trusted_mahalanobis",
    "width_of",
]


@dataclass(frozen=True)
class ClassSum:
    """Of the records of one class: how many, their mean (D,), and the sum of (x - mean)(x - mean)' (D, D)."""

    count: int
    mean: Floats
    scatter: Floats

    @classmethod
    def of(cls, rows: Floats) -> ClassSum:
        """From rows (n, D), n > 0."""
        mean = rows.mean(axis=0)
        centred = rows - mean
        return cls(len(rows), mean, centred.T @ centred)

    def __add__(self, other: ClassSum) -> ClassSum:
        """Of both together."""
        count = self.count + other.count
        apart = other.mean - self.mean
        between = np.multiply.outer(apart, apart * (self.count * other.count / count))
        return ClassSum(count, self.mean + apart * (other.count / count), self.scatter + other.scatter + between)


@dataclass(frozen=True)
class Moments:
    """Class sums of some blocks, by node of the tree: node (h, k) covers the blocks from k * 2**h to (k + 1) * 2**h."""

    nodes: Mapping[Node, Mapping[int, ClassSum]]

    @classmethod
    def joined(cls, parts: Iterable[Moments]) -> Moments:
        """Of several states, none of which share a block.

        Raises:
            UnfitInput: a block that is in two of them.
        """
        nodes: dict[Node, Mapping[int, ClassSum]] = {}
        for part in parts:
            for node, sums in part.nodes.items():
                _carry(nodes, node, sums)
        return cls(nodes)

    def require_whole(self, records: int) -> None:
        """Check that every block of so many records is here.

        Raises:
            UnfitInput: blocks too few, or too many.
        """
        here, need = sum(2**height for height, _ in self.nodes), block_count(records)
        if here != need or any((place + 1) * 2**height > need for height, place in self.nodes):
            raise UnfitInput("moments", f"{here} blocks", f"all {need} of {records} records, each once")

    def total(self) -> dict[int, ClassSum]:
        """Class sums over all blocks; nodes are added in the order of their blocks."""
        whole: dict[int, ClassSum] = {}
        for node in sorted(self.nodes, key=lambda node: node[1] * 2 ** node[0]):
            whole = _added(whole, self.nodes[node])
        return whole


def block_count(records: int) -> int:
    """How many blocks so many records are."""
    return -(-records // BLOCK)


def moments(file: Path, labels: Labels, blocks: Iterable[int] | None = None) -> Moments:
    """The state of some blocks of a file.

    Args:
        file: ``.npy`` of features (N, D), float32 or float64; one block of it is in memory at a time.
        labels: (N,) of all records.
        blocks: which; default all.

    Raises:
        UnfitInput: no such array, another number of labels, or features that are not finite.
    """
    nodes: dict[Node, Mapping[int, ClassSum]] = {}
    for block in range(block_count(len(labels))) if blocks is None else blocks:
        x, y = _rows(file, labels, block)
        _carry(nodes, (0, block), {int(label): ClassSum.of(x[y == label]) for label in np.unique(y)})
    return Moments(nodes)


def spectral(file: Path, labels: Labels, found: Moments, directions: int = 1) -> Floats:
    """Scores (N,) as `assay.filters.spectral` gives them."""
    found.require_whole(len(labels))
    total = found.total()
    bases = {label: principal(one.scatter, directions) for label, one in total.items()}
    scores = np.empty(len(labels))
    for rows, label, x in _by_class(file, labels):
        scores[rows] = (((x - total[label].mean) @ bases[label]) ** 2).sum(axis=1)
    return scores


def trusted_mahalanobis(
    file: Path,
    labels: Labels,
    found: Moments,
    trusted_features: Floats,
    trusted_labels: Labels,
    member: TrustedMahalanobis | None = None,
) -> Floats:
    """Scores (N,) as `assay.filters.trusted_mahalanobis` gives them; trusted records (T, D) are in memory."""
    found.require_whole(len(labels))
    member, pooled = member or TrustedMahalanobis(), within(trusted_features, trusted_labels)
    frames = {
        label: member.frame(one.scatter, trusted_features[trusted_labels == label], pooled, label)
        for label, one in found.total().items()
    }
    scores = np.empty(len(labels))
    for rows, label, x in _by_class(file, labels):
        scores[rows] = frames[label].distances(x)
    return scores


def rows_of(file: Path, labels: Labels, block: int) -> Floats:
    """The features (n, D) of one block, in float64."""
    return _rows(file, labels, block)[0]


def width_of(file: Path, labels: Labels) -> int:
    """D, of a file that fits the labels."""
    return int(_mapped(file, len(labels)).shape[1])


def _carry(nodes: dict[Node, Mapping[int, ClassSum]], node: Node, sums: Mapping[int, ClassSum]) -> None:
    """Put a node into its place, and join it with its sibling for as long as that is there."""
    height, place = node
    covered = any((place >> (h - height) == k) if h >= height else (k >> (height - h) == place) for h, k in nodes)
    if covered:
        raise UnfitInput("moments", f"block {place * 2**height} twice", "each block once")
    while (height, place ^ 1) in nodes:
        sibling = nodes.pop((height, place ^ 1))
        sums = _added(sibling, sums) if place % 2 else _added(sums, sibling)
        height, place = height + 1, place // 2
    nodes[height, place] = sums


def _added(one: Mapping[int, ClassSum], other: Mapping[int, ClassSum]) -> dict[int, ClassSum]:
    both = {label: one[label] + other[label] for label in one.keys() & other.keys()}
    return {**one, **other, **both}


def _rows(file: Path, labels: Labels, block: int) -> tuple[Floats, Labels]:
    """One block; the file is mapped anew for each, so that what was read does not stay."""
    array = _mapped(file, len(labels))
    inside = slice(block * BLOCK, min((block + 1) * BLOCK, len(labels)))
    if not 0 <= block < block_count(len(labels)):
        raise UnfitInput("block", str(block), f"one of {block_count(len(labels))}")
    x = np.asarray(array[inside], dtype=np.float64)
    if not np.isfinite(x.sum()) and not np.isfinite(x).all():
        raise UnfitInput(f"{file}: block {block}", "NaN or infinity", "finite numbers")
    return x, labels[inside]


def _mapped(file: Path, records: int) -> npt.NDArray[np.floating[Any]]:
    try:
        array: npt.NDArray[np.floating[Any]] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise UnfitInput(str(file), f"{type(error).__name__}: {error}", "a .npy file of features") from error
    if array.ndim != 2 or len(array) != records or array.dtype.kind != "f" or not records or not array.shape[1]:
        raise UnfitInput(str(file), f"{array.dtype} {array.shape}", f"float ({records}, D), one row a label")
    return array


def _by_class(file: Path, labels: Labels) -> Iterator[tuple[npt.NDArray[np.int64], int, Floats]]:
    """Positions, label and features of the records of every block and class."""
    for block in range(block_count(len(labels))):
        x, y = _rows(file, labels, block)
        for label in np.unique(y):
            own = np.flatnonzero(y == label)
            yield block * BLOCK + own, int(label), x[own]
