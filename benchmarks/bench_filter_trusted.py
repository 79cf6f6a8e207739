"""What 20, 100 and 400 trusted records a class buy, where one source brought all the others.

    python benchmarks/bench_filter_trusted.py [--runs 2] [--data FOLDER] [--out FILE]

20,000 pictures of the half of Fashion-MNIST that the method was tuned on, in one source and one batch, so that only
trusted records tell clean from poisoned. One JSON line a trigger, share and number: planted records found and clean
ones lost over the runs, and the p-values of the target's class. No bar: it says what to collect, not what to expect.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from bench_filter_cells import RECORDS, Run, pictures, seed_of, trigger_of

from assay.config.filters import FilterConfig
from assay.estimate import proportion
from assay.filters.examine import look
from assay.filters.scoring import members
from assay.poison import plant

TRUSTED, CELLS = (20, 100, 400), (("patch", 0.005), ("patch", 0.01), ("warp", 0.01), ("warp", 0.05))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/fashion_mnist")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    for trigger, share in CELLS:
        for number in TRUSTED:
            made = [measured((trigger, share, k), number, given.data) for k in range(given.runs)]
            found, planted, lost, clean = (sum(one[at] for one in made) for at in range(4))
            line = {"trigger": trigger, "share": share, "trusted_a_class": number, "runs": given.runs}
            for name, part in (("recall", proportion(found, planted)), ("lost", proportion(lost, clean))):
                line[name] = [round(value, 5) for value in (part.value, part.low, part.high)]
            text = json.dumps(line | {"p_values": [one[4] for one in made]})
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
            if given.out:
                with given.out.open("a") as out:
                    out.write(text + "\n")
    return 0


def measured(run: Run, number: int, data: Path) -> tuple[int, int, int, int, float]:
    """Planted records found of so many, clean ones lost of so many, and the p-value of the target's class."""
    seed, target, config = seed_of(run, "tune"), run[2] % 10, FilterConfig()
    rng = np.random.default_rng(seed)
    images, labels = pictures(data, "train")
    order = rng.permutation(30_000)
    first, rest = order[:RECORDS], order[RECORDS:]
    trusted = np.concatenate([rest[labels[rest] == label][:number] for label in range(10)])
    x, y, bad = plant(
        images[first], labels[first], trigger_of(run, seed), target=target, count=round(run[1] * RECORDS), generator=rng
    )
    reference = images[trusted], labels[trusted]
    _, made = look(x, y, ["only"] * RECORDS, 10, reference, config, members(config.detectors))
    gone = made.decision.removed
    value = next(one.p_value for one in made.decision.classes if one.label == target)
    assert value is not None
    return int(gone[bad].sum()), int(bad.sum()), int(gone[~bad].sum()), int((~bad).sum()), value


if __name__ == "__main__":
    sys.exit(main())
