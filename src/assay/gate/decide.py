"""From the verdicts of the rules to one decision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from assay import catalog
from assay.config.gate import ALWAYS, FAMILY, measures
from assay.gate.verdict import Case

Decision = Literal["promote", "reject", "inconclusive"]
EXIT_CODES: dict[str, int] = {"promote": 0, "reject": 1, "inconclusive": 3}

__all__ = ["EXIT_CODES", "Decision", "ask", "conclude"]


def ask(case: Case) -> list[dict[str, Any]]:
    """What every rule says: those that apply always, then the policy's in their order.

    Each entry holds ``rule``, ``severity``, ``verdict``, ``about``, ``need``, ``note``, ``text``, and ``estimate`` and
    ``bar`` where there is one.
    """
    listed = [dict(rule) for rule in case.policy.rules if rule["rule"] not in ALWAYS]
    answers, measured = [], []
    for given in [{"rule": name} for name in ALWAYS] + listed:
        name = given.pop("rule")
        rule = catalog.build(FAMILY, name, given)
        answers.append(rule(case).to_json(name, rule.severity))
        if measures(name):
            measured.append(answers[-1])
    exhausted = case.attempt > case.policy.attempts
    if exhausted or case.attempt >= case.policy.coarse_from:
        _withhold(measured, case, exhausted)
    return answers


def _withhold(measured: list[dict[str, Any]], case: Case, exhausted: bool) -> None:
    """Tell of what was measured on the hold-out only whether all that is required of it holds.

    While the one answer is no, whoever tries again has learnt nothing about the hold-out, however the next model is
    chosen: each model is then as good as fixed beforehand, and the union bound over attempts holds for it. A number, or
    which rule it was, would let the next model be fitted to the hold-out.

    Reference: Blum and Hardt, The Ladder, ICML 2015 (arXiv:1502.04585): what is told is what can be fitted to.
    """
    required = [answer for answer in measured if answer["severity"] != "advisory"]
    holds = not exhausted and all(answer["verdict"] == "holds" for answer in required)
    note = f"not told at attempt {case.attempt} on this hold-out; new trusted records begin a new count"
    for answer in measured:
        if answer["verdict"] == "not_measured":  # says nothing about the hold-out
            continue
        answer.pop("estimate", None)
        answer["verdict"] = "holds" if holds and answer in required else "unclear"
        answer["note"] = note
        answer["text"] = " ".join(f"{answer['about']} {answer['need']}; {note}".split())


def conclude(answers: Iterable[dict[str, Any]]) -> Decision:
    """Promote only when every required rule holds, and there is one besides, of a measurement.

    Reject when a required rule misses; everything else is inconclusive.
    """
    required = [answer for answer in answers if answer["severity"] != "advisory"]
    if any(answer["verdict"] == "misses" for answer in required):
        return "reject"
    own = [answer for answer in required if measures(answer["rule"])]
    return "promote" if own and all(answer["verdict"] == "holds" for answer in required) else "inconclusive"
