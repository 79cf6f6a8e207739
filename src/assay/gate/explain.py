"""Every rule a policy may use, from the rules' own docstrings and fields."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

from assay import catalog
from assay.config.gate import ALWAYS, FAMILY, PolicyConfig
from assay.gate.power import power_lines, power_table

CONFIDENCE: float = PolicyConfig.model_fields["confidence"].default
EXAMPLE_BAR, EXAMPLE_RECORDS = 0.8, (1000, 2500)
__all__ = ["explanation", "explanation_lines"]


def explanation() -> dict[str, Any]:
    """All there is to know for writing a policy.

    Returns:
        ``rules``: name, what it says, ``example`` in YAML, fields with type, default and meaning; ``policy``: the same
        of the whole file; ``power``: how likely ``at_least`` lets models below, at and above its bar pass, by attempt.
    """
    return {
        "rules": [_rule(name) for name in catalog.names(FAMILY)],
        "policy": inspect.getdoc(PolicyConfig),
        "power": [
            {
                "bar": EXAMPLE_BAR,
                "records": n,
                "confidence": CONFIDENCE,
                "attempts": power_table(EXAMPLE_BAR, n, CONFIDENCE),
            }
            for n in EXAMPLE_RECORDS
        ],
    }


def explanation_lines(document: dict[str, Any]) -> list[str]:
    """The explanation for a terminal."""
    lines: list[str] = []
    for rule in document["rules"]:
        always = "  (applies always)" if rule["always"] else ""
        lines += [f"{rule['rule']}{always}", *(f"  {line}" for line in rule["says"].splitlines())]
        for field in rule["fields"]:
            default = "" if field["default"] is None else f" = {field['default']}"
            lines.append(f"    {field['name']}: {field['type']}{default}")
            lines.append(f"        {field['means']}")
        lines += [f"    - {rule['example']}", ""]
    lines += [*str(document["policy"]).splitlines(), ""]
    return [*lines, *(line for n in EXAMPLE_RECORDS for line in power_lines(EXAMPLE_BAR, n, CONFIDENCE))]


def _rule(name: str) -> dict[str, Any]:
    cls = catalog.member(FAMILY, name)
    head, _, fields = (inspect.getdoc(cls) or "").partition("\nFields:\n")
    says, _, example = head.partition("\nExample:\n")
    meanings = _meanings(fields)
    return {
        "rule": name,
        "always": name in ALWAYS,
        "says": says.strip(),
        "example": example.strip(),
        "fields": [
            {
                "name": field.name,
                "type": str(field.type),
                "default": None if field.default is dataclasses.MISSING else repr(field.default),
                "means": meanings[field.name],
            }
            for field in dataclasses.fields(cls)
        ],
    }


def _meanings(fields: str) -> dict[str, str]:
    """Name to meaning, from the ``Fields:`` section of a docstring."""
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", fields, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
