"""A decision as a report shows it: what the gate decided, and what every rule said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from assay.errors import UnfitInput
from assay.estimate import Estimate
from assay.report.plots import Interval, Side

Word = Literal["promote", "reject", "inconclusive"]

__all__ = ["Decision", "Rule", "read_decision"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of the policy and its verdict; see `assay.gate.verdict` for the words."""

    name: str
    verdict: str
    required: bool
    about: str
    need: str
    note: str
    estimate: Estimate | None
    bar: float | None

    @property
    def side(self) -> Side:
        """Which side of the bar the rule wants."""
        return "at_most" if self.need.startswith("<") or self.name == "at_most" else "at_least"

    @property
    def interval(self) -> Interval | None:
        """The rule as a row of a plot, when it holds an estimate against a bar."""
        if self.estimate is None or self.bar is None:
            return None
        return Interval.of(self.about, self.estimate, bar=self.bar, side=self.side, verdict=self.verdict)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the gate decided.

    Fields:
        word: ``promote``, ``reject`` or ``inconclusive``.
        rules: in the policy's order.
        target: registered model and alias.
        valid_for_s: age at which it expires, or 0 when it does not say.
    """

    word: Word
    rules: tuple[Rule, ...]
    target: tuple[str, str]
    valid_for_s: int

    def said(self, *verdicts: str) -> list[Rule]:
        """The required rules of these verdicts."""
        return [rule for rule in self.rules if rule.required and rule.verdict in verdicts]


def read_decision(document: Mapping[str, Any]) -> Decision:
    """The decision of a statement.

    Raises:
        UnfitInput: another shape, or a word that is no decision.
    """
    try:
        body = document["predicate"]
        if body["decision"] not in get_args(Word):
            raise UnfitInput("decision", repr(body["decision"]), "promote, reject or inconclusive")
        return Decision(
            word=body["decision"],
            rules=tuple(_rule(entry) for entry in body["rules"]),
            target=(str(body["target"]["model"]), str(body["target"]["alias"])),
            valid_for_s=int(body.get("valid_for_s", 0)),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UnfitInput("decision", f"{type(error).__name__}: {error}", "an assay.decision/v1 predicate") from error


def _rule(entry: Mapping[str, Any]) -> Rule:
    return Rule(
        name=str(entry["rule"]),
        verdict=str(entry["verdict"]),
        required=entry["severity"] != "advisory",
        about=str(entry.get("about") or entry["text"]),
        need=str(entry.get("need", "")),
        note=str(entry.get("note", "")),
        estimate=Estimate.from_json(entry["estimate"]) if entry.get("estimate") else None,
        bar=float(entry["bar"]) if entry.get("bar") is not None else None,
    )
