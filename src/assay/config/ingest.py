"""Which sources may contribute, and how their batches are read."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import pydantic

from assay import canonical
from assay.config.base import Section, parse
from assay.data.records import NAME, require_name
from assay.errors import UnfitInput

Trust = Literal["untrusted", "standard", "trusted"]

__all__ = ["IngestConfig", "Limits", "SourceConfig", "SourceRule", "Trust", "parse_sources"]


class SourceConfig(Section):
    """One batch of one source.

    Fields:
        name: of the source.
        batch: name of the batch, unique in the ledger for ever; by default the file's name without its ending.
        uri: a path, ``file://`` or ``s3://``; a folder of images ends in ``/``.
        labels_uri: labels beside images (IDX, image folders), or empty.
        trust: ``trusted`` records are split into calibration and hold-out and never trained on. Where
            ``ingest.sources`` names the source, its trust counts; a batch may claim less, never more.
    """

    name: str = pydantic.Field(pattern=rf"^{NAME.pattern}$")
    batch: str = pydantic.Field(default="", pattern=rf"^({NAME.pattern})?$")
    uri: str = pydantic.Field(min_length=1)
    labels_uri: str = ""
    trust: Trust = "standard"

    @property
    def batch_name(self) -> str:
        """The batch's name: given, or the file's name without its ending.

        Raises:
            UnfitInput: the file's name cannot name a batch.
        """
        path = urlsplit(self.uri).path if "://" in self.uri else self.uri
        fix = "It comes from the file's name: give the batch one of its own, as batch in a file or SOURCE/BATCH=URI."
        return self.batch or require_name("batch", PurePosixPath(path.removesuffix(".gz")).stem, fix)


class Limits(Section):
    """How much one batch may hold; more is refused before it is unpacked or parsed.

    Fields:
        file_bytes: of each file, as delivered and again when unpacked.
        rows: records.
        columns: features and label together.
        line_bytes: of one CSV line; a longer one is refused and kept raw.
        pixels: of one image, width times height, read from its header before it is decoded.
        refused_share: largest share of rows that may be refused one by one; above it the whole batch is unfit.
    """

    file_bytes: int = pydantic.Field(default=2**31, ge=1, lt=2**53)
    rows: int = pydantic.Field(default=10_000_000, ge=1, lt=2**53)
    columns: int = pydantic.Field(default=10_000, ge=1, lt=2**31)
    line_bytes: int = pydantic.Field(default=2**20, ge=1, lt=2**31)
    pixels: int = pydantic.Field(default=2**24, ge=1, lt=2**31)
    refused_share: float = pydantic.Field(default=0.1, ge=0, le=1)

    def within(self, other: Limits) -> Limits:
        """The narrower of two limits, one by one."""
        mine, theirs = self.model_dump(), other.model_dump()
        return Limits(**{name: min(value, theirs[name]) for name, value in mine.items()})


class SourceRule(Section):
    """What a source may contribute; everything else that comes in its name is rejected and kept aside.

    Fields:
        prefixes: places its batches may lie at, paths or ``s3://`` URIs, compared segment by segment after links are
            followed, so that ``s3://in/a`` admits neither ``s3://in/a-evil`` nor ``s3://in/a/../b``.
        keys: public keys that may sign its batches: PEM texts, or ids of keys of role ``uploader`` in the keyring.
        require_signature: whether a batch without a signature is rejected. One that is there must hold in any case.
        limits: of its batches, beside ``ingest.limits``; the narrower one counts.
        trust: of its records.
    """

    prefixes: tuple[str, ...] = pydantic.Field(min_length=1)
    keys: tuple[str, ...] = ()
    require_signature: bool = True
    limits: Limits = Limits()
    trust: Trust = "standard"

    @pydantic.model_validator(mode="after")
    def _can_be_met(self) -> SourceRule:
        if self.require_signature and not self.keys:
            raise ValueError("keys, or require_signature: false")
        return self


class IngestConfig(Section):
    """How batches become a dataset.

    Fields:
        label: the label's column.
        task: ``classification``, or ``regression`` where the label is a quantity: a finite number, kept as float64.
        classes: names of the classes, in order; empty takes the sorted distinct labels of all batches. An integer
            label names the class of its decimal string; where no class has such a name, it is the class's position.
        holdout_share: share of trusted records that only evaluate sees; the rest is for calibration.
        salt: mixed into the digest by which trusted records are split, so that a supplier cannot choose the side.
        overlap: what becomes of a record whose features equal those of a hold-out record.
        columns: the columns a table must have, exactly these in this order, the label among them; empty takes any.
        near_holdout: a record this close to a hold-out record is treated like one that equals it: root-mean-square
            distance over the numeric features, each in units of its standard deviation among trusted records (images:
            of all pixels together). 0 asks for equal features.
        types: of CSV columns that shall not be recognised by their cells, such as ``{zip: text}``. ``time`` is an ISO
            8601 instant with its zone; it is kept in UTC, to the microsecond.
        latest: an ISO 8601 instant with zone; a row with a later one is refused. Empty refuses none.
        missing: CSV cells that mean "no value".
        limits: how much one batch may hold.
        sources: who may contribute, by name of the source; empty lets every batch that is listed in. In ``assay.yaml``
            it may be the path of a sources file.
    """

    label: str = pydantic.Field(default="label", min_length=1)
    task: Literal["classification", "regression"] = "classification"
    classes: tuple[str, ...] = ()
    holdout_share: float = pydantic.Field(default=0.5, gt=0, lt=1)
    salt: str = "assay"
    overlap: Literal["quarantine", "flag"] = "quarantine"
    columns: tuple[str, ...] = ()
    near_holdout: float = pydantic.Field(default=0.0, ge=0)
    types: dict[str, Literal["number", "text", "time"]] = pydantic.Field(default_factory=dict)
    latest: str = ""
    missing: tuple[str, ...] = ("",)
    limits: Limits = Limits()
    sources: dict[Annotated[str, pydantic.Field(pattern=rf"^{NAME.pattern}$")], SourceRule] = pydantic.Field(
        default_factory=dict
    )

    @pydantic.model_validator(mode="after")
    def _classes_of_a_classification(self) -> IngestConfig:
        if self.classes and self.task == "regression":
            raise ValueError("no classes where the task is regression")
        return self

    @pydantic.field_validator("latest")
    @classmethod
    def _an_instant(cls, text: str) -> str:
        if text and datetime.fromisoformat(text).tzinfo is None:
            raise ValueError("an instant with its zone, such as 2026-01-01T00:00:00Z")
        return text


class _Sources(Section):
    sources: tuple[SourceConfig, ...] = pydantic.Field(min_length=1)


def parse_sources(document: Any, where: str = "sources") -> tuple[SourceConfig, ...]:
    """Sources from a list, a mapping with the key ``sources``, or the JSON text of either.

    Raises:
        UnfitInput: anything else, or an empty list; an unknown key names the nearest known one.
    """
    plain = canonical.loads(document, where) if isinstance(document, str | bytes) else document
    if isinstance(plain, dict) and "sources" in plain:
        plain = plain["sources"]
    if not isinstance(plain, list):
        raise UnfitInput(where, type(plain).__name__, "a list of sources")
    return parse(_Sources, {"sources": plain}, where).sources
