"""How poison is looked for."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from assay.config.base import Section
from assay.config.device import Device
from assay.config.encoder import EncoderConfig

__all__ = ["FilterConfig", "SelfTestConfig"]

DETECTORS = (
    "activation_clustering",
    "disagreement",
    "neighbours",
    "resampled",
    "spectral",
    "trusted_mahalanobis",
    "two_sample",
    "two_sample_texture",
)


class SelfTestConfig(Section):
    """Backdoors planted in copies of the data, to say what the filter would have found.

    Fields:
        trials: copies for each kind of trigger, each filtered like the data themselves; 0 for no self-test.
        share: of all records, how many are planted in each copy.
        triggers: kinds of ``assay.poison.draw``; empty for those that fit: patch, blended and warp for images, columns
            for tables.
    """

    trials: int = pydantic.Field(default=0, ge=0, le=1000)
    share: float = pydantic.Field(default=0.01, gt=0, le=0.5)
    triggers: tuple[Literal["patch", "blended", "stripe", "warp", "columns"], ...] = ()


class FilterConfig(Section):
    """Detectors and the rates they are held to.

    Fields:
        detectors: members of ``filters`` with their settings; default all but ``quantum_entropy`` and ``strip``.
        false_alarm_rate: on a clean dataset, at most this share of runs removes anything.
        clean_loss: on poisoned data, at most this share of all records goes though it is clean, all classes together,
            by an upper bound; where no more than two classes are flagged and that leaves room for none, those alone
            go that are above all records of others.
        false_discovery_share: of the records that go by one cut, at most this share is clean, by an upper bound. More
            finds more of the poison and loses more clean records with it, up to ``clean_loss``.
        removal_cap: largest share of one class or source that may be quarantined without review; 1 lets all go.
        permutations: draws of the null distribution; the least p-value is 1 / (permutations + 1).
        encoder: a model whose activations are looked at in place of a proxy's; none unless one is named.
        epochs: of the proxy models.
        seed: of the proxy models and the draws.
        threads: torch threads; fixed, because another number gives other bytes.
        device: of the networks; ``auto`` takes a GPU where there is one, which gives other numbers than a CPU. The
            history of what is kept says which it was.
        self_test: how often a planted backdoor is looked for, to say what would have been found.
    """

    detectors: dict[str, dict[str, Any]] = pydantic.Field(default={name: {} for name in DETECTORS}, min_length=1)
    false_alarm_rate: float = pydantic.Field(default=0.01, gt=0, lt=1)
    clean_loss: float = pydantic.Field(default=0.003, gt=0, lt=1)
    false_discovery_share: float = pydantic.Field(default=0.5, gt=0, lt=1)
    removal_cap: float = pydantic.Field(default=0.5, gt=0, le=1)
    permutations: int = pydantic.Field(default=999, ge=19, le=100_000)
    encoder: EncoderConfig = EncoderConfig()
    epochs: int = pydantic.Field(default=12, ge=1, le=1000)
    seed: int = pydantic.Field(default=0, ge=0, lt=2**53)
    threads: int = pydantic.Field(default=1, ge=1, le=256)
    device: Device = "auto"
    self_test: SelfTestConfig = SelfTestConfig()
