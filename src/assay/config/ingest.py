"""Which sources may contribute, and how their batches are read."""

from __future__ import annotations

from typing import Literal

import pydantic

from assay.config.base import Section
from assay.data.records import NAME

__all__ = ["IngestConfig", "SourceConfig"]


class SourceConfig(Section):
    """One batch of one source.

    Fields:
        name: of the source.
        batch: name of the batch, unique in the ledger for ever; by default the file's name without its ending.
        uri: a path, ``file://`` or ``s3://``.
        labels_uri: labels beside images (IDX), or empty.
        trust: ``trusted`` records are split into calibration and hold-out and never trained on.
    """

    name: str = pydantic.Field(pattern=rf"^{NAME.pattern}$")
    batch: str = pydantic.Field(default="", pattern=rf"^({NAME.pattern})?$")
    uri: str = pydantic.Field(min_length=1)
    labels_uri: str = ""
    trust: Literal["untrusted", "standard", "trusted"] = "standard"


class IngestConfig(Section):
    """How batches become a dataset.

    Fields:
        label: the label's column.
        classes: names of the classes, in order; empty takes the sorted distinct labels of all batches.
        holdout_share: share of trusted records that only evaluate sees; the rest is for calibration.
        salt: mixed into the digest by which trusted records are split, so that a supplier cannot choose the side.
    """

    label: str = "label"
    classes: tuple[str, ...] = ()
    holdout_share: float = pydantic.Field(default=0.5, gt=0, lt=1)
    salt: str = "assay"
