"""Stopping early beside measuring all: the same verdict, for how much of the attack work?

    python benchmarks/bench_sequential.py [--models 500] [--records 2000] [--bar 0.5]

Each simulated model stands against the attacks on an unknown share of the records, uniform between 0 and 1; and again
with all shares within 0.1 of the bar, where little can be saved. A look after every 64 records. The chance that the
verdict differs from that of all records is stated as 1 in 1,000 for each model. One JSON line; exits 1 when more than
six of 500 differ (a chance below 1e-6 where the statement is true) or more than 35 % of the work is done on average.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
from scipy.stats import binom

import assay
from assay.estimate import RISK, Estimate, curtailed, proportion, settled
from assay.evaluate.sequential import LOOK_RECORDS

WORK_BAR = 0.35


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("models", 500), ("records", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--bar", type=float, default=0.5)
    given = parser.parse_args()
    most = int(binom.isf(1e-6, given.models, RISK))
    result = {"assay": assay.__version__, "risk": RISK, "most_that_may_differ": most, "work_bar": WORK_BAR}
    for name, spread in (("any share", (0.0, 1.0)), ("near the bar", (given.bar - 0.1, given.bar + 0.1))):
        differ, work = simulated(given.models, given.records, given.bar, spread)
        result[name] = {"differ": differ, "work": round(work, 4)}
    sys.stdout.write(json.dumps({**result, **vars(given)}) + "\n")
    fits = result["any share"]["work"] <= WORK_BAR
    return int(not (fits and all(result[name]["differ"] <= most for name in ("any share", "near the bar"))))


def simulated(models: int, records: int, bar: float, spread: tuple[float, float]) -> tuple[int, float]:
    """Verdicts that differ, and the mean share of the records that were attacked."""
    draw, differ, work = np.random.default_rng(20260), 0, 0.0
    for share in draw.uniform(*spread, models):
        stands = draw.random(records) < share
        for trials in [*range(LOOK_RECORDS, records, LOOK_RECORDS), records]:
            made = curtailed(int(stands[:trials].sum()), trials, records)
            if settled(made, bar):
                break
        differ += verdict(made, bar) != verdict(proportion(int(stands.sum()), records), bar)
        work += trials / records
    return differ, work / models


def verdict(estimate: Estimate, bar: float) -> str:
    return "holds" if estimate.low >= bar else "misses" if estimate.high < bar else "unclear"


if __name__ == "__main__":
    sys.exit(main())
