"""A whole evaluation beside the attack alone: ladder, aimed attacks, curve and soundness checks of two threats.

    python benchmarks/bench_evaluate.py [--workers 2] [--repeats 3]

The limit is the configured attack, PGD of 40 steps and 5 restarts, on every record under both threats, dropping none.
The evaluation finds at least as many records broken and asks five more questions; dropping what is broken pays for
them. Real scans of digits (360), an adversarially trained small CNN. CPU seconds, both in turn, so that a busy machine
slows both; wall seconds of the evaluation on two cores are held to 25. One JSON line; exits 1 above a bar.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from evaluate_cases import TEST, THREATS, digits, trained

import assay
from assay.attacks.pgd import PGD
from assay.evaluate import soundness
from assay.evaluate.ladder import ladder, right
from assay.evaluate.measure import Plan, measure
from assay.evaluate.outcomes import STANDS
from assay.models.fit import deterministic

RATIO, WALL_S = 2.5, 25.0
ATTACKS = {"fgsm": {}, "pgd": {"steps": 40, "restarts": 5}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("workers", 2), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    model = trained("small_cnn", "adversarial", 10)
    x, y = (part[:TEST] for part in digits())
    plan = Plan(threats=THREATS, rungs=ladder(ATTACKS))
    cpu: dict[str, list[float]] = {"limit": [], "evaluation": []}
    walls, standing = [], {}
    with deterministic(1):
        for _ in range(given.repeats):
            started = time.process_time()
            standing["limit"] = [attacked(model, x, y, threat) for threat in THREATS]
            cpu["limit"].append(time.process_time() - started)
            started, wall = time.process_time(), time.perf_counter()
            outcomes = measure(model, x, y, plan, workers=given.workers)
            said = soundness.verdicts(outcomes, y, plan, x[0].numel())
            cpu["evaluation"].append(time.process_time() - started)
            walls.append(time.perf_counter() - wall)
            standing["evaluation"] = [int((by == STANDS).sum()) for by in outcomes.by.values()]
    median = {name: statistics.median(times) for name, times in cpu.items()}
    result = {
        "assay": assay.__version__,
        "cpu_s": median,
        "ratio": round(median["evaluation"] / median["limit"], 3),
        "ratio_bar": RATIO,
        "wall_s": min(walls),
        "wall_bar_s": WALL_S,
        "standing_of_360": standing,
        "soundness": said,
        **vars(given),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    stronger = all(ours <= theirs for ours, theirs in zip(standing["evaluation"], standing["limit"], strict=True))
    return int(not (result["ratio"] <= RATIO and min(walls) <= WALL_S and stronger))


def attacked(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, threat: object) -> int:
    """Records that stand against the attack alone."""
    x_adv = PGD(steps=40, restarts=5)(model, x, y, threat, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    return int(right(model, x_adv, y).sum())


if __name__ == "__main__":
    sys.exit(main())
