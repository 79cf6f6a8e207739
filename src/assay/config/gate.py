"""The policy: which rules must hold before a model is promoted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pydantic

from assay import canonical, catalog
from assay.config.base import Section, parse
from assay.errors import UnfitInput

FAMILY = "gate.rules"
ALWAYS = ("signed", "freshness", "attempts", "no_incident")

__all__ = ["ALWAYS", "FAMILY", "PolicyConfig", "measures"]


def measures(rule: str) -> bool:
    """Whether a rule is about what was measured on the hold-out: without one such nothing is promoted."""
    return bool(getattr(catalog.member(FAMILY, rule), "reads_holdout", True))


class PolicyConfig(Section):
    """Rules and how long evidence counts.

    Fields:
        rules: each ``{"rule": <name>, ...settings}``, a member of ``gate.rules``; settings left out are written out
            with their defaults, so equal policies have equal digests. An empty list is an error, never a promotion,
            and so is one without a single required rule that asks for a measurement.
        confidence: that the intervals must have at least.
        accept_local_keys: whether keys of assurance ``local`` count; a cluster says no.
        valid_for_s: age in seconds at which evidence, decision and approvals expire.
        serve_for_s: seconds after its promotion at which a model is served no more; 0 for no limit.
        attempts: how many measurements on one hold-out, for one target, are decided on; then ``holdout_exhausted``.
        coarse_from: the attempt from which a decision tells of what was measured on the hold-out only whether all of
            it holds: by then little of alpha is left, and more would let the next model be fitted to the hold-out.

    The stated chance that a model at a bar passes is ``alpha = (1 - confidence) / 2``, over all attempts together. The
    rules ``signed``, ``freshness``, ``attempts`` and ``no_incident`` apply always, whether listed or not.
    """

    schema_: Literal["assay.policy/v1"] = pydantic.Field(default="assay.policy/v1", alias="schema")
    rules: tuple[dict[str, Any], ...] = pydantic.Field(min_length=1)
    confidence: float = pydantic.Field(default=0.95, gt=0.5, lt=1)
    accept_local_keys: bool = True
    valid_for_s: int = pydantic.Field(default=7 * 86400, ge=1)
    serve_for_s: int = pydantic.Field(default=0, ge=0)
    attempts: int = pydantic.Field(default=500, ge=1)
    coarse_from: int = pydantic.Field(default=5, ge=1)

    @pydantic.field_validator("rules")
    @classmethod
    def _known_rules(cls, rules: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        whole = tuple(_whole_rule(rule, position) for position, rule in enumerate(rules))
        measuring = [rule for rule in whole if measures(rule["rule"])]
        if not any(rule["severity"] == "required" for rule in measuring):
            raise UnfitInput("policy: rules", "none required that asks for a measurement", "at least one, as at_least")
        return whole

    def to_json(self) -> dict[str, Any]:
        """Plain data for canonical JSON, defaults written out."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def load(cls, path: Path | str) -> PolicyConfig:
        """Read a policy file in YAML.

        Raises:
            UnknownName: an unknown key, rule or setting; carries the nearest known one.
            UnfitInput: anything else that is wrong.
        """
        return parse(cls, canonical.read_yaml(path), str(path))


def _whole_rule(rule: dict[str, Any], position: int) -> dict[str, Any]:
    """A rule with every setting written out, after building it once."""
    name = rule.get("rule")
    if not isinstance(name, str):
        raise UnfitInput(f"policy: rules.{position}", repr(name), "rule: <name of a rule>")
    built = catalog.build(FAMILY, name, {key: value for key, value in rule.items() if key != "rule"})
    return {"rule": name} | catalog.settings(built)
