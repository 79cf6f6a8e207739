"""Mean and spread of rows that are held in a file: to the last bit what numpy gives of all of them in memory.

Proxies start from these numbers, and a decision from the proxies: a bit more or less could not be told from another
dataset. So sums are added in numpy's own order, which follows from the shape alone:

    one column or channel   mean: stretches of 8,192 numbers, its buffer, in turn; spread: by halves, pairwise
    several                 what is of one row (for the mean in stretches of 8,192 at most), row after row
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from assay.data.held import HeldRows, row_blocks
from assay.filters import Floats

BUFFER = 8192
LEAF = 2**21

__all__ = ["moments_of"]


def moments_of(x: HeldRows) -> tuple[Floats, Floats]:
    """Mean and standard deviation, float64: of every channel (1, C, 1, 1), or of every column (1, D)."""
    groups = x.shape[1]
    count = math.prod(x.shape) // groups
    shape = (1, groups, 1, 1) if x.ndim == 4 else (1, groups)
    if groups == 1:
        alone = _in_turn(x) / count
        square = np.full(shape, _pairwise(x, alone, 0, count) / count)
        return np.full(shape, alone), np.sqrt(square)
    mean = _by_rows(x, lambda block: block, BUFFER) / count
    spread = np.sqrt(_by_rows(x, lambda block: (block - mean[:, None]) ** 2, count) / count)
    return mean.reshape(shape), spread.reshape(shape)


def _in_turn(x: HeldRows) -> float:
    """The sum of all numbers, stretch after stretch."""
    total = 0.0
    for rows in row_blocks(x.shape, BUFFER // math.gcd(BUFFER, math.prod(x.shape[1:]))):
        flat = x[rows].ravel().astype(np.float64)
        whole = len(flat) // BUFFER * BUFFER
        sums = [*flat[:whole].reshape(-1, BUFFER).sum(axis=1), *([flat[whole:].sum()] if whole < len(flat) else [])]
        total = float(np.cumsum([total, *sums])[-1])
    return total


def _pairwise(x: HeldRows, mean: float, first: int, stop: int) -> float:
    """The sum of squared distances of a stretch of numbers, as numpy halves it."""
    size = stop - first
    if size <= LEAF:
        distance = x.flat(first, stop).astype(np.float64) - mean
        return float(np.add.reduce(distance * distance))
    middle = first + size // 2 - size // 2 % 8
    return _pairwise(x, mean, first, middle) + _pairwise(x, mean, middle, stop)


def _by_rows(x: HeldRows, of: Callable[[Floats], Floats], stretch: int) -> Floats:
    """The sum over all rows of every column or channel (C,): what one row adds, row after row."""
    total = np.zeros((1, x.shape[1]))
    for rows in row_blocks(x.shape):
        block = of(x[rows].astype(np.float64).reshape(-1, x.shape[1], math.prod(x.shape[2:])))
        cut = range(0, block.shape[2], stretch)
        sums = np.stack([block[:, :, at : at + stretch].sum(axis=2) for at in cut], axis=1)
        total = np.cumsum(np.concatenate([total, sums.reshape(-1, x.shape[1])]), axis=0)[-1:]
    return np.asarray(total[0])
