"""What a rule is asked, and what it answers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from assay.approvals import Approval
from assay.attempts import confidence_at, holdout_of
from assay.config.gate import PolicyConfig
from assay.data.manifest import Manifest
from assay.errors import UnfitInput
from assay.estimate import Estimate, least_for
from assay.evidence import Evidence, robust
from assay.incidents import Charge
from assay.keyring import Assurance
from assay.restate import restated
from assay.threat import ThreatModel

MARKS = re.compile(r"(?::(?:untargeted|targeted|white-box|black-box|transfer|queries-[0-9]+|tabular-[0-9a-f]{12}))*$")
"""What a threat's key names behind ball and box."""

Verdict = Literal["holds", "misses", "unclear", "not_measured"]
SHOWN = 8  # names of other estimates, where none is close
SHARES = ("_accuracy", "_success", "_rate", "_share")  # how names of estimates end that lie in [0, 1]
Severity = Literal["required", "advisory"]

__all__ = [
    "Case",
    "Finding",
    "Severity",
    "Verdict",
    "estimate_name",
    "more_records",
    "reach",
    "require_bar",
    "require_finite",
    "require_share",
    "stay",
    "threat_of",
    "weigh",
    "worst",
]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one rule says.

    Fields:
        verdict: ``holds``, ``misses``, ``unclear`` (the interval holds the bar) or ``not_measured``.
        about: what the rule looked at, such as the name of an estimate.
        need: the bar in words, such as ``>= 0.85``.
        note: what would settle it, or why it was not measured; may be empty.
        estimate: what was measured, or None.
        bar: the number that the interval was held against, or None.
    """

    verdict: Verdict
    about: str
    need: str
    note: str = ""
    estimate: Estimate | None = None
    bar: float | None = None

    @property
    def text(self) -> str:
        """One sentence on one line, whatever names the evidence brings: bar, interval, note."""
        measured = f": {self.estimate}" if self.estimate is not None else ""
        sentence = f"{self.about} {self.need}{measured}" + (f"; {self.note}" if self.note else "")
        return " ".join(sentence.split())

    def to_json(self, rule: str, severity: Severity) -> dict[str, Any]:
        """Plain data for the decision; ``estimate`` and ``bar`` only where there is one."""
        document: dict[str, Any] = {
            "rule": rule,
            "severity": severity,
            "verdict": self.verdict,
            "about": self.about,
            "need": self.need,
            "note": self.note,
            "text": self.text,
        }
        if self.estimate is not None:
            document["estimate"] = self.estimate.to_json()
        return document | ({} if self.bar is None else {"bar": self.bar})


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that a rule may look at; equal cases get equal answers.

    Fields:
        evidence: as the evaluator wrote it.
        policy: whose rule is asked.
        now: the instant of the decision, with zone.
        signed: the evidence carries a valid signature, and the decision can be signed here.
        assurance: of the weakest key that signed.
        champion: digest of the model that the target's alias stands for by the ledger, or empty for none.
        attempt: which attempt on its hold-out the evidence is, from 1.
        earlier: evidence ids of the attempts before it, in order.
        approvals: of the evidence for this target, those that do not count with the reason.
        charges: what open incidents say of the model and the records behind it.
        training: manifests of the records that the model learned from, the last first and then its ancestors; empty
            where the evidence names none, or the ledger lacks one.
    """

    evidence: Evidence
    policy: PolicyConfig
    now: datetime
    signed: bool
    assurance: Assurance = "local"
    champion: str = ""
    attempt: int = 1
    earlier: tuple[str, ...] = ()
    approvals: tuple[Approval, ...] = ()
    charges: tuple[Charge, ...] = ()
    training: tuple[Manifest, ...] = ()

    @property
    def holdout(self) -> str:
        """What names the hold-out, see `assay.attempts.holdout_of`; empty for evidence that names none."""
        try:
            return holdout_of(self.evidence)
        except UnfitInput:
            return ""

    @property
    def confidence(self) -> float:
        """What intervals need at this attempt, so that the policy's confidence holds over all attempts together."""
        return confidence_at(self.policy.confidence, self.attempt)

    def estimate(self, name: str) -> Estimate | str:
        """The estimate of a name at the attempt's confidence when it counts, else the reason why it does not.

        The interval is made again from the integers behind it; one that cannot be has to have the confidence already.
        """
        found = self.evidence.estimates.get(name)
        if found is None:
            return _absent(name, sorted(self.evidence.estimates))
        if self.evidence.truncated:
            return "the measurement was cut short by a time limit"
        if not found.n >= 1:
            return "nothing was measured: n=0"
        again = restated(found, self.confidence)
        if again is not None:
            return again
        if not found.confidence >= self.confidence:
            asked = f"{self.confidence:.6g} at attempt {self.attempt}"
            return f"its confidence is {found.confidence:g}, and {asked} is needed; measure with more"
        return found


def estimate_name(estimate: str, threat: str) -> str:
    """The full name of an estimate, such as ``robust_accuracy/linf:0.1``; ``threat`` as `ThreatModel.parse` reads it.

    A box other than [0, 1] is written behind the threat, as its key has it: ``linf:0.5:[-1,1]``; then what else a key
    names: ``linf:0.1:untargeted:black-box:queries-1000``, ``linf:0.1:tabular-6b86b273ff34``.

    Raises:
        UnfitInput: a threat of another form, or an estimate without a name.
    """
    if not estimate:
        raise UnfitInput("rule: estimate", "an empty name", "the name of an estimate, such as clean_accuracy")
    marks = MARKS.search(threat)
    return robust(estimate, threat_of(threat.removesuffix(marks[0]))) + marks[0] if threat and marks else estimate


def threat_of(text: str) -> ThreatModel:
    """A threat model from ``norm:epsilon``, with ``:[low,high]`` behind it for another box than [0, 1]."""
    ball, _, box = text.partition(":[")
    if not box:
        return ThreatModel.parse(text)
    low, _, high = box.removesuffix("]").partition(",")
    try:
        return ThreatModel.parse(ball, (float(low), float(high)))
    except ValueError as error:
        raise UnfitInput("threat", repr(text), "norm:epsilon:[low,high], such as linf:0.5:[-1,1]") from error


def weigh(
    case: Case,
    about: str,
    need: str,
    bar: float,
    *,
    holds: Callable[[Estimate], bool],
    misses: Callable[[Estimate], bool],
    settling: Callable[[Estimate], str],
) -> Finding:
    """Hold the interval of one estimate against a bar.

    Args:
        case: the question.
        about: full name of the estimate.
        need: the bar in words.
        bar: the bar as a number.
        holds: what the ends of the interval must fulfil for the rule to hold.
        misses: what they must fulfil for it to miss; where neither is true it is unclear.
        settling: what would settle an unclear rule.
    """
    found = case.estimate(about)
    if isinstance(found, str):
        return Finding(verdict="not_measured", about=about, need=need, note=found, bar=bar)
    if holds(found):
        return Finding(verdict="holds", about=about, need=need, estimate=found, bar=bar)
    if misses(found):
        return Finding(verdict="misses", about=about, need=need, estimate=found, bar=bar)
    return Finding(verdict="unclear", about=about, need=need, note=settling(found), estimate=found, bar=bar)


def reach(
    case: Case, about: str, value: float, need: str = "", settling: Callable[[Estimate], str] | None = None
) -> Finding:
    """The whole interval of an estimate is at ``value`` or above it; arguments as for `weigh`."""
    return weigh(
        case,
        about,
        need or f">= {value:g}",
        value,
        holds=lambda found: found.low >= value,
        misses=lambda found: found.high < value,
        settling=settling or (lambda found: more_records(found, value)),
    )


def stay(
    case: Case, about: str, value: float, need: str = "", settling: Callable[[Estimate], str] | None = None
) -> Finding:
    """The whole interval of an estimate is at ``value`` or below it; arguments as for `weigh`."""
    return weigh(
        case,
        about,
        need or f"<= {value:g}",
        value,
        holds=lambda found: found.high <= value,
        misses=lambda found: found.low > value,
        settling=settling or (lambda found: more_records(found, value, above=False)),
    )


def worst(findings: Sequence[Finding], about: str) -> Finding:
    """The finding that decides among several: a miss before what is unknown, that before what is unclear.

    What is told as ``about`` is the same whichever it is; the note names it.
    """
    order: tuple[Verdict, ...] = ("misses", "not_measured", "unclear", "holds")
    first = min(findings, key=lambda finding: order.index(finding.verdict))
    note = "; ".join(part for part in (f"of {len(findings)} the worst is {first.about}", first.note) if part)
    return replace(first, about=about, note=note)


def more_records(found: Estimate, bar: float, above: bool = True) -> str:
    """How many records would settle it that a share is above (or below) a bar, were the share measured the true one."""
    if found.method.startswith("empirical-bernstein"):  # in units of the label: no share
        return ""
    share, edge = (found.value, bar) if above else (1 - found.value, 1 - bar)
    if not (0 < edge < 1 and 0 <= share <= 1):
        return ""
    least = least_for(share, edge, found.confidence)
    return f"at {found.value:.3f}, n={least} would settle it" if least is not None else ""


def _absent(name: str, known: list[str]) -> str:
    """Why an estimate is not there: it was measured in another box, under another threat, or has another name."""
    boxed = [other for other in known if other.startswith(f"{name}:[")]
    if len(boxed) and boxed[0].count("/") == name.count("/"):
        return f'it was measured in another box than [0, 1]: write threat: "{boxed[0].partition("/")[2]}"'
    close = [other for other in known if other.split("/")[0] == name.split("/")[0]]
    close = close or [other for other in known if other.count("/") < 2 and "[" not in other][:SHOWN]
    return f"no such estimate; the evidence has {', '.join(close) or 'none'}"


def require_share(where: str, value: float) -> None:
    """Refuse a bar that is no share."""
    if not 0 <= value <= 1:
        raise UnfitInput(where, str(value), "a share in [0, 1]")


def require_bar(where: str, estimate: str, value: float) -> None:
    """Refuse a bar that no interval can be held against: one that is not finite, or outside [0, 1] for a share.

    Whoever writes 20 and means percent would have a rule that always holds, or never.
    """
    (require_share if estimate.endswith(SHARES) else require_finite)(where, value)


def require_finite(where: str, value: float) -> None:
    """Refuse a bar that no interval can be held against."""
    if not math.isfinite(value):
        raise UnfitInput(where, str(value), "a finite number")
