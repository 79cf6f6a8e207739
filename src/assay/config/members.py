"""Every member that a configuration names, built once before anything runs.

A section holds its members as names and settings, since reading it must not load torch. So a misspelt attack would show
an hour later, in the pod that evaluates. Whoever starts a pipeline asks here first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from assay import catalog
from assay.config.root import Config
from assay.threat import ThreatModel

BOX = (-1e300, 1e300)  # the model's own is not known yet; what it allows, its step checks

__all__ = ["require_members"]


def require_members(config: Config) -> None:
    """Build what the sections name: model, method, attacks, aspects, triggers, filters, detectors, statistics, threats.

    Raises:
        UnknownName: no such member or setting; carries the nearest one.
        UnfitInput: a setting that the member refuses, or a threat that is none.
    """
    for family, name, settings in _named(config):
        catalog.build(family, name, settings)
    for text in (config.train.threat, *config.evaluate.threats):
        ThreatModel.parse(text, BOX)


def _named(config: Config) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Family, name and settings of every member; an architecture by import path is none."""
    train, evaluate = config.train, config.evaluate
    if ":" not in train.model.name:
        yield "models", train.model.name, train.model.settings
    yield "train", train.method.name, train.method.settings
    attacks = [evaluate.attacks, *([evaluate.black_box.attacks] if evaluate.black_box else [])]
    families: dict[str, list[dict[str, dict[str, Any]]]] = {
        "filters": [config.filter.detectors],
        "attacks": attacks,
        "evaluate.aspects": [evaluate.aspects],
        "sanitize.detectors": [{name: given.settings for name, given in config.sanitize.detectors.items()}],
        "drift": [{name: {} for name in config.monitor.statistics}],
    }
    for family, chosen in families.items():
        yield from ((family, *member) for members in chosen for member in members.items())
    for trigger in evaluate.triggers:
        own = {key: value for key, value in trigger.items() if key not in ("name", "kind", "target")}
        yield "poison.triggers", str(trigger.get("kind", "")), own
