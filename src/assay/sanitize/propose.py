"""A suite profiled from trusted records, for somebody to review: what all of them are, and nothing that they are not.

With n trusted records, a clean record drawn like them lies outside the range of one column with a chance of at most
2 / (n + 1), whatever the distribution; the proposal says what that adds up to over its columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from assay.data.dataset import Dataset
from assay.data.files import write_file
from assay.errors import UnfitInput
from assay.sanitize.scalars import frame

SET_SIZE = 50
LEAST = 20

__all__ = ["propose"]


def propose(trusted: Path, out: Path) -> dict[str, Any]:
    """Write the section ``sanitize`` of an ``assay.yaml`` with a suite that every trusted record passes.

    Numbers, and the statistics of images, get their range; texts with at most 50 values, of which each was seen twice
    or more, their set.

    Returns:
        ``suite``, ``records``, and ``alarm``: the share of clean records that the ranges together may refuse, at most.

    Raises:
        UnfitInput: too few trusted records, or a file that is there.
    """
    dataset = Dataset.load(trusted)
    if len(dataset) < LEAST:
        raise UnfitInput(str(trusted), f"{len(dataset)} records", f"at least {LEAST} to learn what is plausible")
    if out.exists():
        raise UnfitInput(str(out), "a file that exists", "a new name for the proposal")
    table = frame(dataset, np.ones(len(dataset), np.bool_))
    ranges = [_range(name, table[name].to_numpy()) for name in table.columns if table[name].dtype.kind in "iuf"]
    sets = [_set(name, dataset.table[name]) for name in dataset.feature_names if _is_text(dataset.table[name])]
    suite = [it for it in [*ranges, *sets] if it is not None and it["kwargs"]["column"] != "label"]
    alarm = min(1.0, 2 * sum("min_value" in it["kwargs"] for it in suite) / (len(dataset) + 1))
    head = (
        f"# Profiled from {len(dataset)} records of dataset {dataset.manifest.digest}. Review every line: a range is\n"
        f"# what was seen, not what is right. Together the ranges refuse a share of at most {alarm:.3g} of clean\n"
        "# records that are drawn like these, on average.\n"
    )
    write_file(out, (head + yaml.safe_dump({"suite": suite}, sort_keys=False, width=120, allow_unicode=True)).encode())
    return {"suite": suite, "records": len(dataset), "alarm": alarm, "path": str(out)}


def _range(name: str, values: Any) -> dict[str, Any] | None:
    finite = values[np.isfinite(values.astype(np.float64))]
    if not len(finite):
        return None
    low, high = finite.min().item(), finite.max().item()
    kwargs = {"column": name, "min_value": low, "max_value": high}
    return {"type": "expect_column_values_to_be_between", "kwargs": kwargs}


def _set(name: str, column: pa.ChunkedArray) -> dict[str, Any] | None:
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(column.drop_null()).to_pylist()}
    if not counts or len(counts) > SET_SIZE or min(counts.values()) < 2:
        return None
    return {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": name, "value_set": sorted(counts)}}


def _is_text(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(column.type))
