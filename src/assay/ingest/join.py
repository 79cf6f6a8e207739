"""Joins batches into tables of one schema, with labels as positions among the classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.errors import UnfitInput
from assay.ingest.columns import require_distinct
from assay.ingest.rows import Rows

INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")

__all__ = ["classes_of", "require_schema", "require_values", "with_keys"]


def require_schema(batches: Sequence[tuple[str, Rows]]) -> None:
    """Refuse batches whose features differ in name or type from those of the first.

    Raises:
        UnfitInput: names the two batches and the first column that differs.
    """
    first_name, first = batches[0]
    need = _features(first.table)
    for name, rows in batches[1:]:
        got = _features(rows.table)
        for column in [*need, *(column for column in got if column not in need)]:
            if got.get(column) != need.get(column):
                raise UnfitInput(
                    f"batch {name}: column {column!r}",
                    str(got.get(column, "no such column")),
                    f"{need.get(column, 'no such column')}, as in batch {first_name}",
                    "All batches of one dataset have the same columns and types.",
                )


def require_values(name: str, table: pa.Table) -> None:
    """Refuse a batch with a feature column that holds no value at all.

    Raises:
        UnfitInput: every cell of a column is missing, NaN or infinite.
    """
    for column in table.column_names[1:-1]:
        cells = table[column]
        usable = len(cells) - cells.null_count
        if pa.types.is_floating(cells.type):
            usable = pc.sum(pc.is_finite(cells)).as_py() or 0
        if not usable:
            raise UnfitInput(f"batch {name}: column {column!r}", "no finite value in any row", "values, or no column")


def classes_of(batches: Sequence[tuple[str, Rows]], given: Sequence[str]) -> tuple[str, ...]:
    """The classes: those given, or the sorted distinct labels of all batches; integers sort as numbers.

    Raises:
        UnfitInput: fewer than two classes are present, two names look alike, or a batch holds a label of no class.
    """
    found: dict[str, str] = {}
    for name, rows in batches:
        for label in pc.unique(rows.table["label"]).to_pylist():
            found.setdefault(str(label), name)
    numeric = all(INTEGER.fullmatch(label) for label in found)
    classes = tuple(given) or tuple(sorted(found, key=int if numeric else str.encode))
    if len(set(classes)) != len(classes):
        raise UnfitInput("ingest.classes", f"{classes}", "each class once")
    require_distinct(classes, "classes")
    if len(found) < 2:
        raise UnfitInput("label", f"one class in all batches: {', '.join(found) or 'none'}", "at least two classes")
    positions = _positions(classes)
    unknown = next((label for label in found if label not in positions), None)
    if unknown is not None:
        raise UnfitInput(
            f"batch {found[unknown]}: label",
            repr(unknown),
            f"one of the classes {', '.join(classes[:20])}",
            "See ingest.classes.",
        )
    return classes


def with_keys(name: str, rows: Rows, classes: Sequence[str], order: Sequence[str]) -> pa.Table:
    """A batch's table with the column ``batch`` in front and labels as int64 positions.

    Args:
        name: ``<source>/<batch>``.
        rows: of the batch.
        classes: from `classes_of`.
        order: of the features.
    """
    positions = _positions(classes)
    label = rows.table["label"].combine_chunks().dictionary_encode()
    if isinstance(label, pa.ChunkedArray):
        label = label.combine_chunks()
    lookup: npt.NDArray[np.int64] = np.array([positions[str(text)] for text in label.dictionary.to_pylist()], np.int64)
    batch = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows.table.num_rows, np.int32)), pa.array([name]))
    columns = {column: rows.table[column] for column in order}
    return pa.table({"batch": batch, "row": rows.table["row"], **columns, "label": lookup[label.indices.to_numpy()]})


def _features(table: pa.Table) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in table.schema if field.name not in ("row", "label")}


def _positions(classes: Sequence[str]) -> dict[str, int]:
    """Class name to position; where no class is named by a number, positions name the classes too."""
    named = {name: position for position, name in enumerate(classes)}
    if any(INTEGER.fullmatch(name) for name in classes):
        return named
    return named | {str(position): position for position in range(len(classes))}
