"""What monitor costs, how often it is wrong, and how soon it sees a shift.

    python benchmarks/bench_drift.py speed    64 features, 50,000 reference and 10,000 current records
    python benchmarks/bench_drift.py alarms   1,000 unchanged windows of 12 features; then shifted ones

Speed: processor seconds of the whole comparison as a ratio to scipy's ks_2samp on the same numbers in turn (the one
statistic any such monitor computes); held to 5. Alarms: the share of unchanged windows that get an alarm, held to the
stated rate, beside the rule "any p below 0.05" that per-feature presets use; then the share of windows found in which
one feature of twelve moved by a quarter, half or whole standard deviation. One JSON line; exits 1 above a bar.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from scipy.stats import binom, ks_2samp
from threadpoolctl import threadpool_limits

from assay.config.monitor import MonitorConfig
from assay.drift.feature import Pair
from assay.monitor import compare

FEATURES, REFERENCE, CURRENT = 64, 50_000, 10_000
WINDOWS, WIDTH, SIZES = 1_000, 12, (1000, 500)
RATIO, ROUNDS, RATE = 5.0, 3, 0.01


def speed() -> int:
    rng = np.random.default_rng(0)
    data = [Pair(f"f{k}", "number", rng.normal(size=REFERENCE), rng.normal(size=CURRENT)) for k in range(FEATURES)]
    ours, peer = [], []
    with threadpool_limits(1):
        for _ in range(ROUNDS):
            ours.append(seconds(lambda: compare(data, MonitorConfig(), (REFERENCE, CURRENT))))
            peer.append(seconds(lambda: [ks_2samp(pair.reference, pair.current, method="asymp") for pair in data]))
    ratio = statistics.median(a / b for a, b in zip(ours, peer, strict=True))
    print(json.dumps({"monitor_cpu_s": min(ours), "ks_2samp_cpu_s": min(peer), "ratio": round(ratio, 2)}))
    return int(not ratio <= RATIO)


def alarms() -> int:
    config = MonitorConfig(false_alarm_rate=RATE)
    unchanged = [window(seed, 0.0, config) for seed in range(WINDOWS)]
    wrong = sum(alarm for alarm, _ in unchanged)
    naive = sum(low for _, low in unchanged) / WINDOWS
    found = {
        shift: sum(window(10**6 + seed, shift, config)[0] for seed in range(100)) / 100 for shift in (0.25, 0.5, 1.0)
    }
    bound = int(binom.ppf(1 - 1e-6, WINDOWS, RATE))
    shown = {"stated_rate": RATE, "alarms": wrong, "windows": WINDOWS, "bound": bound, "any_p_below_0.05": naive}
    print(json.dumps(shown | {"found": found}))
    return int(wrong > bound or found[1.0] < 1)


def window(seed: int, shift: float, config: MonitorConfig) -> tuple[bool, bool]:
    """Whether monitor alarms on a window whose first feature moved, and whether any p-value lies below 0.05."""
    rng = np.random.default_rng(seed)
    moved = [shift, *[0.0] * (WIDTH - 1)]
    data = [
        Pair(f"f{k}", "number", rng.normal(size=SIZES[0]), rng.normal(by, 1.0, size=SIZES[1]))
        for k, by in enumerate(moved)
    ]
    findings, answer = compare(data, config.model_copy(update={"seed": seed}), SIZES)
    low = any(finding.p_value is not None and finding.p_value < 0.05 for finding in findings)
    return answer["action"] in ("investigate", "retrain"), low


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return round(time.process_time() - started, 3)


if __name__ == "__main__":
    sys.exit({"speed": speed, "alarms": alarms}[(sys.argv[1:] or ["speed"])[0]]())
