"""A decision for people: Markdown for the KFP page, lines for a terminal; verdict first, each rule against its bar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from assay.config.gate import ALWAYS
from assay.estimate import Estimate

WORDS = {"promote": "Promote", "reject": "Reject", "inconclusive": "Inconclusive"}

__all__ = ["changes", "headline", "lines", "markdown"]


def headline(decision: str, rules: Sequence[Mapping[str, Any]]) -> str:
    """One sentence: the decision and why, such as ``inconclusive: 1 of 2 rules unclear``."""
    required = [rule for rule in rules if rule["severity"] != "advisory"]
    counts = Counter(rule["verdict"] for rule in required)
    waiting = [rule["note"] for rule in required if rule["rule"] == "approved" and rule["verdict"] == "not_measured"]
    if decision == "inconclusive" and waiting and counts["holds"] == len(required) - len(waiting):
        return f"inconclusive: {waiting[0]}"
    if decision == "promote":
        return f"promote: {counts['holds']} of {len(required)} rules hold"
    told = ("misses",) if decision == "reject" else ("unclear", "not_measured")
    why = [f"{counts[verdict]} of {len(required)} rules {_spoken(verdict)}" for verdict in told if counts[verdict]]
    return f"{decision}: {', '.join(why) or 'no rule of the policy is required'}"


def changes(body: Mapping[str, Any]) -> list[str]:
    """What would change the verdict, one sentence a rule that does not hold; of a promotion, what would end it.

    Args:
        body: the predicate of a decision.
    """
    found = [_change(rule) for rule in body["rules"] if rule["severity"] != "advisory" and rule["verdict"] != "holds"]
    if found:
        return found
    days = body["valid_for_s"] / 86400
    return [
        f"Nothing has to change. It counts for {days:g} days; another model, evidence, policy or target, an incident "
        "about it, or another champion promoted before it asks for a new decision."
    ]


def _change(rule: Mapping[str, Any]) -> str:
    what = f"{rule['rule']} {rule['about']} {rule['need']}".strip()
    if rule["verdict"] == "unclear":
        return f"{what}: {rule['note'] or 'the bar lies inside the interval; measure on more records'}."
    if rule["verdict"] == "misses":
        why = f": {rule['note']}" if rule["note"] else ": the whole interval lies on the wrong side of the bar"
        return f"{what}{why}. Only another model, or other records, can change that."
    return f"{what} has to be measured: {rule['note']}."


def lines(answer: Mapping[str, Any]) -> list[str]:
    """What `assay.gate.step.gate` returned, for a terminal: the evidence first, the decision last."""
    return [_about(answer), *_table(answer["rules"]), headline(answer["decision"], answer["rules"])]


def markdown(document: Mapping[str, Any]) -> str:
    """The statement of a decision as Markdown, verdict first."""
    body = document["predicate"]
    subjects = {entry["name"]: entry["digest"]["sha256"] for entry in document["subject"]}
    target = body["target"]
    rows = [_row(rule) for rule in body["rules"]]
    facts = [f"- {name}: `{subjects[name]}`" for name in ("model", "evidence", "policy")]
    return "\n".join(
        [
            f"# {WORDS[body['decision']]}",
            "",
            _escape(headline(body["decision"], body["rules"])),
            "",
            "| verdict | rule | bar | measured | |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "What would change it:",
            "",
            *(f"- {_escape(line)}" for line in changes(body)),
            "",
            *_looked(body),
            f"- target: `{target['model']}@{target['alias']}`",
            *facts,
            "",
        ]
    )


def _looked(body: Mapping[str, Any]) -> list[str]:
    """The attempt and the approvals; a decision of an earlier release names neither."""
    looked = body.get("attempt")
    told = [f"- attempt {looked['number']} of {looked['of']} on this hold-out"] if looked else []
    return told + [f"- approved by key `{given['key']}`" for given in body.get("approvals", ())]


def _row(rule: Mapping[str, Any]) -> str:
    mark = "" if rule["severity"] == "required" else " (advisory)"
    cells = (f"{rule['rule']} {rule['about']}", rule["need"], _measured(rule), rule["note"])
    return " | ".join([f"| **{_spoken(rule['verdict'])}**{mark}", *(_escape(cell) for cell in cells)]) + " |"


def _about(answer: Mapping[str, Any]) -> str:
    parts = [f"model {answer['model'][:8]}"]
    parts += [f"data {answer['dataset'][:8]}"] if answer["dataset"] else []
    measured = answer["measured"]
    parts += [f"threats {', '.join(measured['threats'])}"] if measured.get("threats") else []
    attacks = measured.get("attacks")
    if isinstance(attacks, Mapping):
        parts += ["attacks " + ", ".join(_call(name, how) for name, how in attacks.items())]
    looked = answer["attempt"]
    return "  ".join([*parts, f"attempt {looked['number']} of {looked['of']}"])


def _table(rules: Sequence[Mapping[str, Any]]) -> list[str]:
    shown = [rule for rule in rules if rule["rule"] not in ALWAYS or rule["verdict"] != "holds"]
    cells = [(_spoken(rule["verdict"]), rule["about"], rule["need"], _measured(rule), rule["note"]) for rule in shown]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    return [
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip()
        for row in cells
    ]


def _call(name: str, settings: Any) -> str:
    """An attack with its settings, as the library would be called."""
    if not isinstance(settings, Mapping):
        return name
    return f"{name}({', '.join(f'{key}={value}' for key, value in settings.items())})"


def _spoken(verdict: str) -> str:
    return verdict.replace("_", " ")


def _measured(rule: Mapping[str, Any]) -> str:
    return str(Estimate.from_json(rule["estimate"])) if "estimate" in rule else ""


def _escape(text: str) -> str:
    """Text that stays text in a Markdown table: names come from files."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return text.replace("\n", " ")
