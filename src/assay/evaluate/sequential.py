"""Sequential evaluation: records in random order, and no more of them than the verdict needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from assay.errors import UnknownName
from assay.estimate import RISK, settled
from assay.evaluate import summary
from assay.evaluate.blocks import block_count
from assay.evaluate.holdout import Holdout
from assay.evaluate.measure import Plan, measure
from assay.evaluate.outcomes import Outcomes

LOOK_RECORDS = 64

__all__ = ["LOOK_RECORDS", "first", "measure_until", "shuffled"]


def shuffled(data: Holdout, seed: int) -> Holdout:
    """The same records in an order drawn by the seed, so that any first part of them is a random sample."""
    order = np.random.default_rng([seed, 1]).permutation(len(data.rows))
    return _take(data, order)


def first(data: Holdout, count: int) -> Holdout:
    """The first so many records."""
    return _take(data, np.arange(count))


def measure_until(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    plan: Plan,
    bars: Mapping[str, float],
    confidence: float,
    *,
    workers: int = 1,
) -> Outcomes:
    """Measure block after block until every bar is settled, or no record is left.

    A bar is settled once the verdict that all records would give is fixed but for a chance; these chances add up to at
    most `RISK` over all bars, however often one looks (see `curtailed`).

    Args:
        model: as in `measure`.
        x: all records, in random order.
        y: their true classes.
        plan: as in `measure`, with small blocks: after each the evaluation may stop.
        bars: name of an estimate and the value that a rule will hold it to.
        confidence: of the estimates.
        workers: blocks attacked at the same time, and looked at together.

    Raises:
        UnknownName: a bar for an estimate that this plan does not make.
    """
    labels, until, risk = y.cpu().numpy(), plan.until(), RISK / max(1, len(bars))
    blocks = block_count(len(x), plan.block_records)
    done: Outcomes = Outcomes(())
    for begin in range(0, blocks, workers):
        chosen = range(begin, min(begin + workers, blocks))
        part = measure(model, x, y, plan, blocks=chosen, workers=workers, until=until)
        done = Outcomes((*done.blocks, *part.blocks))
        made = summary.estimates(done, plan, confidence, labels, risk)
        for name in bars:
            if name not in made:
                raise UnknownName("evaluate.decide: estimate", name, made)
        if all(settled(made[name], bar) for name, bar in bars.items()) or done.tallies["truncated"]:
            break
    return done


def _take(data: Holdout, at: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Holdout:
    return replace(data, rows=data.rows[at], x=data.x[at], y=data.y[at])
