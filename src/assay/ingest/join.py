"""Joins batches into tables of one schema, with labels as positions among the classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.errors import UnfitInput
from assay.ingest.columns import require_distinct
from assay.ingest.spool import Spool

INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")

__all__ = ["classes_of", "positions_of", "require_labels", "require_schema", "with_keys"]


def require_schema(batches: Sequence[Spool], reference: Spool) -> None:
    """Refuse batches whose features differ in name or type from those of one of them.

    Raises:
        UnfitInput: names the two batches and the first column that differs.
    """
    need = reference.features
    for batch in batches:
        got = batch.features
        for column in [*need, *(column for column in got if column not in need)]:
            if got.get(column) != need.get(column):
                raise UnfitInput(
                    f"batch {batch.name}: column {column!r}",
                    str(got.get(column, "no such column")),
                    f"{need.get(column, 'no such column')}, as in batch {reference.name}",
                    "All batches of one dataset have the same columns and types.",
                )


def require_labels(batch: Spool, classes: Sequence[str]) -> None:
    """Refuse a batch with a label of no class.

    Raises:
        UnfitInput: names the label.
    """
    positions = _positions(classes)
    unknown = next((label for label in batch.labels if label not in positions), None)
    if unknown is not None:
        raise UnfitInput(
            f"batch {batch.name}: label",
            repr(unknown),
            f"one of the classes {', '.join(classes[:20])}",
            "See ingest.classes.",
        )


def classes_of(batches: Sequence[Spool], given: Sequence[str]) -> tuple[str, ...]:
    """The classes: those given, or the sorted distinct labels of all batches; integers sort as numbers.

    Raises:
        UnfitInput: fewer than two classes are present, two names look alike, or a batch holds a label of no class.
    """
    found = {label for batch in batches for label in batch.labels}
    numeric = all(INTEGER.fullmatch(label) for label in found)
    classes = tuple(given) or tuple(sorted(found, key=int if numeric else str.encode))
    if len(set(classes)) != len(classes):
        raise UnfitInput("ingest.classes", f"{classes}", "each class once")
    require_distinct(classes, "classes")
    if len(found) < 2:
        raise UnfitInput("label", f"one class in all batches: {', '.join(found) or 'none'}", "at least two classes")
    for batch in batches:
        require_labels(batch, classes)
    return classes


def positions_of(batches: Iterable[Spool], classes: Sequence[str]) -> set[int]:
    """The classes that batches hold, as positions."""
    positions = _positions(classes)
    return {positions[label] for batch in batches for label in batch.labels}


def with_keys(name: str, rows: pa.Table, classes: Sequence[str], order: Sequence[str]) -> pa.Table:
    """Rows of a batch with the column ``batch`` in front and labels as int64 positions, or as float64 quantities.

    Args:
        name: ``<source>/<batch>``.
        rows: of the batch.
        classes: from `classes_of`; none for a regression.
        order: of the features.

    Raises:
        UnfitInput: a label that is no number, for a regression.
    """
    label = _numbered(rows["label"], classes) if classes else _quantities(rows["label"], name)
    batch = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows.num_rows, np.int32)), pa.array([name]))
    columns = {column: rows[column] for column in order}
    return pa.table({"batch": batch, "row": rows["row"], **columns, "label": label})


def _numbered(column: pa.ChunkedArray, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    positions = _positions(classes)
    label = column.combine_chunks().dictionary_encode()
    if isinstance(label, pa.ChunkedArray):
        label = label.combine_chunks()
    lookup: npt.NDArray[np.int64] = np.array([positions[str(text)] for text in label.dictionary.to_pylist()], np.int64)
    return np.asarray(lookup[label.indices.to_numpy()], dtype=np.int64)


def _quantities(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise UnfitInput(f"batch {name}: label", str(error), "numbers, for a regression") from error


def _positions(classes: Sequence[str]) -> dict[str, int]:
    """Class name to position; where no class is named by a number, positions name the classes too."""
    named = {name: position for position, name in enumerate(classes)}
    if any(INTEGER.fullmatch(name) for name in classes):
        return named
    return named | {str(position): position for position in range(len(classes))}
