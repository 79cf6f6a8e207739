"""From the verdicts of the rules to one decision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from assay import catalog
from assay.config.gate import FAMILY
from assay.gate.verdict import Case

Decision = Literal["promote", "reject", "inconclusive"]
IMPLICIT = ("signed", "freshness")
EXIT_CODES: dict[str, int] = {"promote": 0, "reject": 1, "inconclusive": 3}

__all__ = ["EXIT_CODES", "IMPLICIT", "Decision", "ask", "conclude"]


def ask(case: Case) -> list[dict[str, Any]]:
    """What every rule says: the two that apply always, then the policy's in their order.

    Each entry holds ``rule``, ``severity``, ``verdict``, ``about``, ``need``, ``note``, ``text``, and ``estimate`` and
    ``bar`` where there is one.
    """
    listed = [dict(rule) for rule in case.policy.rules if rule["rule"] not in IMPLICIT]
    answers = []
    for given in [{"rule": name} for name in IMPLICIT] + listed:
        name = given.pop("rule")
        rule = catalog.build(FAMILY, name, given)
        answers.append(rule(case).to_json(name, rule.severity))
    return answers


def conclude(answers: Iterable[dict[str, Any]]) -> Decision:
    """Promote only when every required rule holds, and there is one besides those that apply always.

    Reject when a required rule misses; everything else is inconclusive.
    """
    required = [answer for answer in answers if answer["severity"] != "advisory"]
    if any(answer["verdict"] == "misses" for answer in required):
        return "reject"
    own = [answer for answer in required if answer["rule"] not in IMPLICIT]
    return "promote" if own and all(answer["verdict"] == "holds" for answer in required) else "inconclusive"
