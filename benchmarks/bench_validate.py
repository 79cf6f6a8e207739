"""Validation of 1,000,000 x 20 with 40 expectations and every failing id, against Great Expectations COMPLETE.

    python benchmarks/bench_validate.py [rows]

CPU seconds of this process, each side the least of three runs in turn, on the same frame, result format and suite. The
bound is 1.3. A second line has a column of which half the values fail.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from assay.sanitize.expectations import quiet, validate

ROUNDS = 3
BOUND = 1.3
COMPLETE = {
    "result_format": "COMPLETE",
    "unexpected_index_column_names": ["record_id"],
    "include_unexpected_rows": False,
}


def frame(rows: int, broken: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    words = np.array(["alpha", "beta", "gamma", "delta"], dtype=object)
    columns: dict[str, Any] = {"record_id": [f"v/b:{row}" for row in range(rows)]}
    columns |= {f"f{k}": rng.normal(size=rows) for k in range(10)}
    columns |= {f"i{k}": rng.integers(0, 1000, rows) for k in range(5)}
    columns |= {f"s{k}": words[rng.integers(0, 4, rows)] for k in range(4)}
    columns["f0"][rng.random(rows) < broken] = 99.0
    return pd.DataFrame(columns)


def suite() -> list[dict[str, Any]]:
    """Two for each of twenty columns, some of which fail for a few records in a million."""
    made = []
    for k in range(10):
        made += [("expect_column_values_to_be_between", {"column": f"f{k}", "min_value": -4.5, "max_value": 4.5})]
        made += [("expect_column_values_to_not_be_null", {"column": f"f{k}"})]
    for k in range(5):
        made += [("expect_column_values_to_be_between", {"column": f"i{k}", "min_value": 0, "max_value": 998})]
        made += [("expect_column_values_to_not_be_null", {"column": f"i{k}"})]
    for k in range(4):
        value_set = ["alpha", "beta", "gamma", "delta"]
        made += [("expect_column_values_to_be_in_set", {"column": f"s{k}", "value_set": value_set})]
        made += [("expect_column_value_lengths_to_be_between", {"column": f"s{k}", "min_value": 4, "max_value": 5})]
    made += [("expect_column_values_to_be_unique", {"column": "record_id"})]
    made += [("expect_table_row_count_to_be_between", {"min_value": 1})]
    return [{"type": name, "kwargs": kwargs} for name, kwargs in made]


def peer(given: pd.DataFrame, configurations: list[dict[str, Any]]) -> int:
    """Great Expectations by itself; returns the number of failing ids it lists."""
    with quiet():
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig
        from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

        made = [ExpectationConfiguration(**it).to_domain_obj() for it in configurations]
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("p").add_dataframe_asset("p")
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": given})
        results = batch.validate(gx.ExpectationSuite(name="s", expectations=made), result_format=COMPLETE).results
    return sum(len(it.result.get("unexpected_index_list") or ()) for it in results)


def ours(given: pd.DataFrame, configurations: list[dict[str, Any]]) -> int:
    return sum(len(outcome.failing) for outcome in validate(given, configurations))


def seconds(call: Callable[[], int]) -> tuple[float, int]:
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    configurations = suite()
    peer(frame(100, 0.0), configurations)
    worst = 0.0
    for broken in (1e-6, 0.5):
        given = frame(rows, broken)
        pairs = [
            (seconds(lambda: ours(given, configurations)), seconds(lambda: peer(given, configurations)))  # noqa: B023
            for _ in range(ROUNDS if broken < 0.1 else 1)
        ]
        (mine, found), (theirs, known) = (min(pair[side] for pair in pairs) for side in (0, 1))
        assert found == known, (found, known)
        print(f"{rows} rows, {len(configurations)} expectations, {found} failing ids: assay {mine:.2f} s, ", end="")
        print(f"Great Expectations COMPLETE {theirs:.2f} s: ratio {mine / theirs:.2f} (bound {BOUND})")
        worst = max(worst, mine / theirs)
    sys.exit(worst > BOUND)


if __name__ == "__main__":
    main()
