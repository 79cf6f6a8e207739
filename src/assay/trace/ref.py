"""REF: how people name what they trace, ``<kind>:<name>``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from assay.data.records import NAME, RecordId
from assay.errors import UnfitInput, UnknownName

KINDS = (
    "record",
    "batch",
    "source",
    "dataset",
    "run",
    "model",
    "evidence",
    "decision",
    "promotion",
    "alias",
    "deployment",
)
LEAST_PREFIX = 6
NEAR = 8

__all__ = ["KINDS", "Ref", "Scope", "by_prefix", "unknown"]


@dataclass(frozen=True)
class Ref:
    """A parsed reference.

    Fields:
        kind: one of `KINDS`.
        name: what follows the colon.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> Ref:
        """Read ``<kind>:<name>``.

        Raises:
            UnknownName: no such kind.
            UnfitInput: no name.
        """
        kind, _, name = text.partition(":")
        if not kind or not name:
            need = "<kind>:<name>, such as source:vendor-c or alias:digits@champion"
            raise UnfitInput("reference", repr(text), need, f"Kinds: {', '.join(KINDS)}.")
        if kind not in KINDS:
            raise UnknownName("kind of reference", kind, KINDS)
        return cls(kind, name)


@dataclass(frozen=True)
class Scope:
    """The records that a trace follows: those of a source, of a batch, or one of them.

    Fields:
        source: name of the source.
        batch: name of the batch alone, or empty for all of the source.
        row: of the record, or None for all of the batch.
    """

    source: str
    batch: str = ""
    row: int | None = None

    @classmethod
    def of(cls, ref: Ref) -> Scope | None:
        """The scope of a reference, or None when it names no records.

        Raises:
            UnfitInput: a name of another form.
        """
        if ref.kind == "record":
            record = RecordId.parse(ref.name)
            return cls(record.source, record.batch, record.row)
        if ref.kind not in ("batch", "source"):
            return None
        parts = ref.name.split("/")
        if len(parts) != (2 if ref.kind == "batch" else 1) or not all(NAME.fullmatch(part) for part in parts):
            raise UnfitInput(ref.kind, repr(ref.name), "<source>/<batch>" if ref.kind == "batch" else "a source's name")
        return cls(parts[0], parts[1] if ref.kind == "batch" else "")

    def takes(self, source: str, batch: str) -> bool:
        """Whether records of this batch lie in the scope."""
        return source == self.source and self.batch in ("", batch)

    def holds(self, record: RecordId) -> bool:
        """Whether one record lies in the scope."""
        return self.takes(record.source, record.batch) and self.row in (None, record.row)


def by_prefix(kind: str, name: str, known: Iterable[str]) -> str:
    """The one known digest that begins with the name.

    Raises:
        UnknownName: none does.
        UnfitInput: several do.
    """
    names = sorted(known)
    found = [full for full in names if full == name or (len(name) >= LEAST_PREFIX and full.startswith(name))]
    if len(found) > 1:
        raise UnfitInput(f"{kind}:{name}", f"a beginning of {len(found)} digests", "enough digits for one")
    if not found:
        raise unknown(kind, name, names)
    return found[0]


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that the ledger does not hold, with the nearest ones it does."""
    names = sorted(known)
    return UnknownName(kind, name, difflib.get_close_matches(name, names, n=NEAR, cutoff=0.4) or names[:NEAR])
