"""What a plausible record is."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from assay.config.base import Section
from assay.config.constraints import ConstraintsConfig
from assay.config.encoder import EncoderConfig

Answer = Literal["keep", "flag", "downweight", "quarantine", "reject"]

__all__ = ["AnnotatorsConfig", "DetectorConfig", "SanitizeConfig"]


class DetectorConfig(Section):
    """How one detector is listened to.

    Fields:
        on: what it looks at: the numeric ``features``, or their ``embeddings`` by the step's encoder.
        rate: share of clean records that it may call suspicious, on average, when clean records are like the trusted
            ones; without trusted records no rate is known, and the detector only ever flags.
        action: what becomes of a suspicious record.
        severe_rate: a smaller share, beyond whose cut a record is severely suspicious; 0 knows no such cut.
        severe_action: what becomes of those.
        settings: of the member.
    """

    on: Literal["features", "embeddings"] = "features"
    rate: float = pydantic.Field(default=0.001, gt=0, lt=1)
    action: Answer = "flag"
    severe_rate: float = pydantic.Field(default=0.0, ge=0, lt=1)
    severe_action: Answer = "quarantine"
    settings: dict[str, Any] = pydantic.Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> DetectorConfig:
        if self.severe_rate >= self.rate:
            raise ValueError(f"severe_rate {self.severe_rate}, which is not below rate {self.rate}")
        return self


class AnnotatorsConfig(Section):
    """Labels of several annotators, and what follows from them.

    Fields:
        file: CSV of ``record_id,annotator,label``; empty for none.
        consensus: ``dawid_skene``, which learns how each annotator errs, or ``majority``, in which all count alike.
        posterior: how sure their consensus must be of another label; of a majority, its share of the votes.
        action: what becomes of a record whose label it contradicts.
    """

    file: str = ""
    consensus: Literal["dawid_skene", "majority"] = "dawid_skene"
    posterior: float = pydantic.Field(default=0.95, gt=0.5, le=1)
    action: Answer = "flag"


class SanitizeConfig(Section):
    """Expectations and caps.

    Fields:
        suite: Great Expectations configurations, each ``{"type": ..., "kwargs": {...}}``; checked beside what assay
            always checks (rows, finite features, missing values, weights, duplicates, labels in the classes). Columns
            are the features that are no images, ``label`` and ``record_id``; of an image column ``c`` they are
            ``c.min``, ``c.max``, ``c.mean`` and ``c.std``.
        least_records: fewer kept records fail the step.
        removal_cap: largest share of one source or one class that may be quarantined without review.
        duplicates: what becomes of a record whose features and label equal those of an earlier record.
        detectors: members of ``sanitize.detectors`` by name; none by default. Each is measured against trusted records.
        encoder: of the embeddings.
        annotators: labels of several annotators per record.
        constraints: what every row of a table is (integers, one-hot groups, relations); a record that breaks one
            leaves. Usually the section ``constraints`` of the whole file, which the attacks of evaluate keep to.
        seed: of the detectors, and of the division of the trusted records into those they are fitted to and those that
            set their cuts.
    """

    suite: tuple[dict[str, Any], ...] = ()
    least_records: int = pydantic.Field(default=2, ge=1)
    removal_cap: float = pydantic.Field(default=0.5, gt=0, le=1)
    duplicates: Literal["quarantine", "flag", "keep"] = "quarantine"
    detectors: dict[str, DetectorConfig] = pydantic.Field(default_factory=dict)
    encoder: EncoderConfig = EncoderConfig()
    annotators: AnnotatorsConfig = AnnotatorsConfig()
    constraints: ConstraintsConfig | None = None
    seed: int = pydantic.Field(default=0, ge=0, lt=2**32)

    @pydantic.model_validator(mode="after")
    def _with_encoder(self) -> SanitizeConfig:
        wants = sorted(name for name, given in self.detectors.items() if given.on == "embeddings")
        if bool(wants) != bool(self.encoder.model):
            raise ValueError(f"encoder.model {self.encoder.model!r} with detectors {wants} on embeddings: both or none")
        return self
