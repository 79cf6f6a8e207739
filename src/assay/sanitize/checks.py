"""What is always checked, for an expectation would let it through: values, weights, constraints, duplicates, leaks.

Great Expectations counts a missing or NaN value as no failure, and no rows at all as success; here a value that is
missing or not finite takes its record out, whatever the suite says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.config.sanitize import SanitizeConfig
from assay.constraints import bind
from assay.data import records
from assay.data.content import ContentIndex, Repeats
from assay.data.dataset import KEYS, Dataset
from assay.data.finding_list import FindingList
from assay.data.findings import Action
from assay.data.layout import features_of
from assay.data.matrix import matrix, numeric_names

Mask = npt.NDArray[np.bool_]
FORMULA = r"^[=+\-@\t\r]"
UNCOMPARED = (*KEYS, "weight")

__all__ = ["Checks", "constant_columns"]


class Checks:
    """The checks that no suite can leave out, on tables that are there one at a time."""

    def __init__(self, config: SanitizeConfig, calibration: Dataset | None) -> None:
        """Prepare them.

        Args:
            config: says what becomes of duplicates, and what every row of a table is.
            calibration: trusted records; a record that equals one of them is flagged as a leak.
        """
        self.findings = FindingList()
        self._duplicates, self._constraints = config.duplicates, config.constraints
        self._repeats = Repeats()
        self._known = ContentIndex.of(_contents(calibration.table)) if calibration is not None else None
        self._constant: dict[str, pa.Array] | None = None
        self._records = 0

    def add(self, table: pa.Table) -> None:
        """Check the records that follow, in canonical order."""
        self._finds(table, missing(table), "missing_value", "quarantine")
        self._finds(table, not_finite(table), "not_finite", "quarantine")
        if "weight" in table.column_names:
            self._finds(table, unfit_weight(table["weight"]), "unfit_weight", "quarantine")
        self._finds(table, formula(table), "formula_cell", "flag")
        if self._constraints is not None:
            for reason, at_fault in bind(self._constraints, numeric_names(table)).faults(matrix(table)).items():
                self._finds(table, at_fault, reason, "quarantine")
        contents = _contents(table)
        if self._duplicates != "keep":
            self._repeats.add(contents)
        if self._known is not None:
            self._finds(table, self._known.holds(contents), "calibration_record", "flag")
        self._note_constant(table)
        self._records += table.num_rows

    def settle(self, tables: Callable[[], Iterator[pa.Table]]) -> None:
        """Find the duplicates, once all records were added; of records that are equal the first by id stays.

        Args:
            tables: gives the same tables anew; asked only where records may be equal.
        """
        if self._duplicates == "keep":
            return
        given = (_contents(table) for table in tables())
        again, first = self._repeats.settled(given), 0
        self._repeats = Repeats()  # its hashes are no longer needed
        for table in tables() if again.any() else ():
            self._finds(table, again[first : first + table.num_rows], "duplicate_record", self._duplicates)
            first += table.num_rows

    @property
    def constant(self) -> list[str]:
        """Features that hold one value only; see `constant_columns`."""
        return sorted(self._constant or {}, key=self._order.__getitem__) if self._records > 1 else []

    def _note_constant(self, table: pa.Table) -> None:
        if self._constant is None:
            names = _scalars(table)
            self._order = {name: at for at, name in enumerate(names)}
            self._constant = {name: pa.array([], table[name].type) for name in names}
        for name, seen in list(self._constant.items()):
            values = pc.unique(pa.chunked_array([seen, *table[name].chunks], seen.type))
            if len(values) > 1:
                del self._constant[name]
            else:
                self._constant[name] = values

    def _finds(self, table: pa.Table, mask: Mask, reason: str, action: Action) -> None:
        if mask.any():
            self.findings.add(records.record_ids(table.filter(pa.array(mask))), "sanitize", 1.0, reason, action)


def missing(table: pa.Table) -> Mask:
    """Which records lack a feature, (N,)."""
    lacking = np.zeros(table.num_rows, np.bool_)
    for name in features_of(table):
        column = table[name]
        if column.null_count:
            lacking |= column.is_null().to_numpy()
    return lacking


def not_finite(table: pa.Table) -> Mask:
    """Which records hold NaN or an infinity in a feature, a pixel included, (N,)."""
    bad = np.zeros(table.num_rows, np.bool_)
    for name in features_of(table):
        column = table[name]
        if isinstance(column.type, pa.FixedShapeTensorType):
            parts = [chunk.to_numpy_ndarray().reshape(len(chunk), -1) for chunk in column.chunks]
            bad |= np.concatenate([~np.isfinite(part).all(axis=1) for part in parts] or [bad])
        elif pa.types.is_floating(column.type):
            bad |= ~pc.fill_null(pc.is_finite(column), True).to_numpy()
    return bad


def formula(table: pa.Table) -> Mask:
    """Which records hold a text that a spreadsheet would run as a formula, (N,); it is stored as it came."""
    found = np.zeros(table.num_rows, np.bool_)
    for name in features_of(table):
        column = table[name]
        if pa.types.is_string(column.type):
            found |= pc.fill_null(pc.match_substring_regex(column, FORMULA), False).to_numpy()
    return found


def unfit_weight(weight: pa.ChunkedArray) -> Mask:
    """Which weights are missing, negative or not finite, (N,)."""
    values = np.asarray(weight.cast(pa.float64()).to_numpy(), dtype=np.float64)
    return ~(np.isfinite(values) & (values >= 0))


def constant_columns(dataset: Dataset) -> list[str]:
    """Features that hold one value only: nothing can be learnt from them, and a broken export looks like this."""
    table = dataset.table
    return [name for name in _scalars(table) if table.num_rows > 1 and len(pc.unique(table[name])) == 1]


def _scalars(table: pa.Table) -> list[str]:
    """The features that are no images."""
    return [name for name in features_of(table) if not isinstance(table[name].type, pa.FixedShapeTensorType)]


def _contents(table: pa.Table) -> pa.Table:
    """Every record's features and label."""
    return table.drop_columns([name for name in UNCOMPARED if name in table.column_names])
