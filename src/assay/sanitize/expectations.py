"""Runs a Great Expectations suite and gives the id of EVERY failing record.

What its success flag lets through is refused here: an expectation that evaluated nothing, one that failed without
naming records, and the share of failures that ``mostly`` forgives, which is quarantined like any other.
"""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from assay.data.finding_list import FindingList
from assay.errors import AssayError, UnfitInput, UnknownName
from assay.sanitize.scalars import RECORD_ID

DETECTOR = "great_expectations"
ROW_COUNT = "expect_table_row_count_to_be_between"
COMPLETE = {"result_format": "COMPLETE", "include_unexpected_rows": False}  # positions: ids by GX cost it 40 us each

__all__ = ["DETECTOR", "Outcome", "add_findings", "require_outcome", "standard_suite", "validate"]


@dataclass(frozen=True)
class Outcome:
    """What one expectation found.

    Fields:
        type: name of the expectation.
        kwargs: its settings.
        evaluated: records with a value.
        failing: ids of the records that fail, complete, sorted.
        success: as Great Expectations says.
        rows: whether it judges rows, not a whole table or column.
    """

    type: str
    kwargs: dict[str, Any]
    evaluated: int
    failing: tuple[str, ...]
    success: bool
    rows: bool = True

    @property
    def reason(self) -> str:
        """The reason code of its findings."""
        column = self.kwargs.get("column") or "/".join(map(str, self.kwargs.get("column_list", ())))
        return f"{self.type}({column})"


def standard_suite(classes: int, least_records: int) -> list[dict[str, Any]]:
    """The expectations of every dataset, so that no suite is empty."""
    return [
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": least_records}},
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": RECORD_ID}},
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "label", "min_value": 0, "max_value": classes - 1},
        },
    ]


def validate(
    frame: pd.DataFrame,
    suite: Sequence[Mapping[str, Any]],
    *,
    part: bool = False,
    show: Callable[[Any], object] | None = None,
) -> list[Outcome]:
    """Evaluate a suite.

    Args:
        frame: scalars with a column ``record_id``; see `scalars.frame`.
        suite: configurations ``{"type": ..., "kwargs": {...}}``; not empty.
        part: whether the frame is a part of the records, of which a column may hold no value.
        show: called with Great Expectations' own result, or None.

    Raises:
        UnknownName: no such expectation.
        UnfitInput: settings it does not take, a column that is not there, nothing to evaluate, or an expectation about
            the whole table that does not hold.
        AssayError: it failed without saying for which records.
    """
    if not suite or not len(frame):
        raise UnfitInput("sanitize", f"{len(suite)} expectations on {len(frame)} records", "at least one of each")
    with quiet():
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        expectations = gx.ExpectationSuite(name="assay", expectations=[_expectation(given) for given in suite])
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("records").add_dataframe_asset("records")
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame.reset_index(drop=True)})
        result = batch.validate(expectations, result_format=COMPLETE)
    if show is not None:
        show(result)
    results = result.results
    ids = frame[RECORD_ID].to_numpy()
    if len(results) != len(suite):
        raise AssayError("sanitize", f"{len(results)} results of {len(suite)} expectations", "one each")
    outcomes = [_outcome(result, ids, part) for result in results]
    if part:  # its objects refer to one another, and would keep the frames of many parts until they are looked for
        del context, asset, batch, results
        gc.collect()
    return outcomes if part else [require_outcome(outcome) for outcome in outcomes]


def require_outcome(outcome: Outcome) -> Outcome:
    """Refuse the outcome of an expectation about rows that evaluated none.

    Raises:
        UnfitInput: no record has a value.
    """
    if outcome.rows and outcome.evaluated <= 0 and outcome.type != ROW_COUNT:
        where = f"expectation {outcome.type} {outcome.kwargs}"
        raise UnfitInput(where, "no value to evaluate", "at least one record with a value")
    return outcome


def add_findings(findings: FindingList, outcomes: Sequence[Outcome]) -> None:
    """One finding for each failing record of each expectation; all remove the record."""
    for outcome in outcomes:
        findings.add(outcome.failing, DETECTOR, 1.0, outcome.reason, "quarantine")


def _expectation(given: Mapping[str, Any]) -> Any:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    unknown = next((key for key in given if key not in ("type", "kwargs")), None)
    if unknown is not None:
        raise UnknownName("sanitize.suite key", unknown, ["kwargs", "type"])
    name, kwargs = str(given.get("type", "")), dict(given.get("kwargs", {}))
    known = list_registered_expectation_implementations()
    if name not in known:
        raise UnknownName("expectation", name, known)
    try:
        return ExpectationConfiguration(type=name, kwargs=kwargs).to_domain_obj()
    except Exception as error:  # pydantic 1 and 2 and its own kinds
        raise UnfitInput(f"expectation {name}", " ".join(str(error).split())[:300], "settings it takes") from error


def _outcome(result: Any, ids: npt.NDArray[Any], part: bool) -> Outcome:
    configuration = result.expectation_config
    kwargs = {key: value for key, value in configuration.kwargs.items() if key != "batch_id"}
    where = f"expectation {configuration.type} {kwargs}"
    raised = _exception(result.exception_info)
    if raised:
        raise UnfitInput(where, raised[:300], "columns and settings that fit the records")
    facts = result.result
    listed = facts.get("unexpected_index_list")
    failing = tuple(sorted({str(name) for name in ids[np.asarray(listed or [], dtype=np.int64)]}))
    evaluated = int(facts.get("element_count", 0)) - int(facts.get("missing_count") or 0)
    is_map = "unexpected_count" in facts
    if is_map and (listed is None or (not result.success and not failing)):
        raise AssayError(where, f"{facts.get('unexpected_count')} failures without record ids", "every failing record")
    if not is_map and not result.success and not part:
        raise UnfitInput(where, str(facts.get("observed_value")), "what the expectation says of the whole table")
    return Outcome(configuration.type, kwargs, evaluated, failing, bool(result.success), is_map)


def _exception(info: Any) -> str:
    """The message of an exception that an expectation met, or nothing."""
    entries = [info] if isinstance(info, dict) and "raised_exception" in info else list((info or {}).values())
    return next((str(entry.get("exception_message")) for entry in entries if entry.get("raised_exception")), "")


@contextmanager
def quiet() -> Iterator[None]:
    """Great Expectations without reports home, progress bars, warnings and log lines."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logger = logging.getLogger("great_expectations")
    level, disabled = logger.level, logger.disabled
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        logger.disabled = disabled
