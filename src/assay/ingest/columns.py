"""Names and types of columns: a name that poses as another, or a type no record can have, is refused."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence

import pyarrow as pa

from assay.config.ingest import IngestConfig
from assay.errors import UnfitInput

RESERVED = ("batch", "row", "label", "weight")
# Letters of other scripts that look like a Latin small letter (a selection of Unicode's confusables table).
_LOOKALIKES = dict(
    zip(
        "аӑәсԁеёһіїјӏмпорԛѕтугѵхьѡ" + "αϲειјκνορτυχωγ" + "ɑɡ" + "օսոհցաք",
        "aaacdeehiijlmnopqstyrvxbw" + "aceijkvoptuxwy" + "ag" + "ounhgwp",
        strict=True,
    )
)

__all__ = ["RESERVED", "plain_table", "require_columns", "require_distinct", "skeleton"]


def skeleton(name: str) -> str:
    """What a name looks like: compatibility forms, case, blanks, invisible signs and look-alike letters folded."""
    text = unicodedata.normalize("NFKC", name).casefold()
    shown = (_LOOKALIKES.get(sign, sign) for sign in text if unicodedata.category(sign) not in ("Cf", "Cc", "Zs"))
    return unicodedata.normalize("NFC", "".join(shown))


def require_distinct(names: Sequence[str], where: str) -> None:
    """Refuse names that a reader could take for one another, and names that hide something.

    Raises:
        UnfitInput: ``ambiguous_column`` and the code points.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not name or name != name.strip() or _hidden(name):
            raise UnfitInput(f"{where}: ambiguous_column", _spell(name), "letters that show, no blank at either end")
        twin = seen.get(skeleton(name))
        if twin is not None:
            raise UnfitInput(
                f"{where}: ambiguous_column", f"{_spell(name)} beside {_spell(twin)}", "names that differ to the eye"
            )
        seen[skeleton(name)] = name


def require_columns(names: Sequence[str], config: IngestConfig, batch: str) -> list[str]:
    """The feature columns of a table with these columns.

    Raises:
        UnfitInput: too many or ambiguous columns, no label column, no feature, or a name that assay keeps for itself.
    """
    where = f"batch {batch}"
    if len(names) > config.limits.columns:
        raise UnfitInput(where, f"{len(names)} columns", f"at most {config.limits.columns} (ingest.limits.columns)")
    if config.label not in names:
        twin = next((name for name in names if skeleton(name) == skeleton(config.label)), None)
        got = f"its look-alike {_spell(twin)}" if twin is not None else f"columns {', '.join(map(repr, names[:20]))}"
        raise UnfitInput(where, got, f"a label column {config.label!r}", "Set ingest.label to the label's column.")
    require_distinct(names, where)
    if config.columns and tuple(names) != config.columns:
        pairs = itertools.zip_longest(names, config.columns, fillvalue="no column")
        place, (got, need) = next((at, pair) for at, pair in enumerate(pairs, 1) if pair[0] != pair[1])
        raise UnfitInput(f"{where}: column {place}", _spell(got), f"{_spell(need)}, as ingest.columns says")
    features = [name for name in names if name != config.label]
    kept = next((name for name in features if skeleton(name) in RESERVED), None)
    if kept is not None:
        raise UnfitInput(where, f"a column {kept!r}", f"other names than {', '.join(RESERVED)}, which assay keeps")
    if not features:
        raise UnfitInput(where, "no feature column", "at least one beside the label")
    return features


def plain_table(table: pa.Table, config: IngestConfig, batch: str) -> pa.Table:
    """The features of a table in plain types, then its column ``label``.

    Raises:
        UnfitInput: a list, a structure, binary data, or nulls within tensors.
    """
    features = require_columns(table.column_names, config, batch)
    columns = {name: _plain(table[name], f"batch {batch}: column {name!r}") for name in features}
    label, where = table[config.label], f"batch {batch}: column {config.label!r}"
    return pa.table(
        {**columns, "label": _quantity(label, where) if config.task == "regression" else _label(label, where)}
    )


def _plain(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        if column.null_count or any(chunk.storage.values.null_count for chunk in column.chunks):
            raise UnfitInput(where, "null images or pixels", "every cell filled: their values are undefined")
        return column
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return column
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            raise UnfitInput(where, "times without a zone", "instants: timestamps with a zone", "Write them in UTC.")
        return column.cast(pa.timestamp(kind.unit, "UTC"))
    fix = "Write images as Arrow tensors of fixed shape." if pa.types.is_nested(kind) else ""
    raise UnfitInput(where, str(kind), "a number, boolean, timestamp, text or tensor of fixed shape", fix)


def _quantity(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Labels as float64."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise UnfitInput(where, str(column.type), "numbers, for a regression")
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise UnfitInput(where, f"{column.type}: {error}", "numbers that a float64 holds") from error


def _label(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Labels as int64 or text; whole floats are integers."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise UnfitInput(where, f"{kind}: {error}", "text or whole numbers") from error
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    raise UnfitInput(where, str(kind), "text or whole numbers")


def _hidden(name: str) -> bool:
    return any(unicodedata.category(sign)[0] == "C" or unicodedata.category(sign) in ("Zl", "Zp") for sign in name)


def _spell(name: str) -> str:
    return repr(name) if name.isascii() else f"{name!r} ({' '.join(f'U+{ord(sign):04X}' for sign in name[:24])})"
