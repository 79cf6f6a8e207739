"""Attempts: how often models were measured on one hold-out for one target. Every measurement is one, and is paid for.

``attempts/<hold-out>/<model>@<alias>/<number>.json``, create-once, numbers from 1 without a gap. What is numbered is
the evidence id, so the same measurement made twice, on two machines or after a crash, is one attempt. An attempt is
charged before its numbers or its verdict are shown: who kills the process has looked, and has paid.
"""

from __future__ import annotations

import math
import re

from assay import canonical
from assay.config.root import Target
from assay.errors import AssayError, Conflict, Refused, UnfitInput
from assay.evidence import Evidence
from assay.ledger import Ledger
from assay.promotions import place_of

SCHEMA = "assay.attempt/v1"
MOST_RACES = 1000  # lost in a row; far beyond what any number of gates can cause
_DIGEST = re.compile(r"[0-9a-f]{64}")

__all__ = ["attempts", "charge", "confidence_at", "holdout_of", "share_of_alpha"]


def share_of_alpha(number: int) -> float:
    """The share of alpha that attempt ``number`` (from 1) may spend: 6 / (pi number)^2; all of them together are 1.

    By the union bound the chance that any attempt, of any number of them, passes a model at its limit is at most alpha.
    The squares leave most to the first attempts; the hundredth needs an interval about twice as wide as the first.

    Reference: alpha spending as in Foster and Stine, JRSS B 70 (2008), 429-444; the series is Euler's.
    """
    if number < 1:
        raise UnfitInput("attempt", str(number), "1 or more")
    return 6 / (math.pi * number) ** 2


def confidence_at(confidence: float, number: int) -> float:
    """The confidence an interval needs at an attempt, for the policy's ``confidence`` to hold over all attempts."""
    return 1 - (1 - confidence) * share_of_alpha(number)


def holdout_of(evidence: Evidence) -> str:
    """What names the hold-out: the digest of its records, whatever its history; of old evidence that of its manifest.

    Raises:
        UnfitInput: evidence that names no hold-out.
    """
    found = evidence.measured.get("holdout_content") or evidence.subjects.get("holdout", "")
    if not isinstance(found, str) or not _DIGEST.fullmatch(found):
        raise UnfitInput("evidence: holdout", repr(found)[:80], "the SHA-256 of the records it was measured on")
    return found


def attempts(ledger: Ledger, holdout: str, target: Target) -> list[str]:
    """Evidence ids in the order of their attempts.

    Raises:
        Refused: a number is missing or a document is about something else: somebody changed the ledger.
    """
    prefix = f"attempts/{holdout}/{place_of(target)}/"
    found: list[str] = []
    for number, name in enumerate(ledger.names(prefix), 1):
        document = canonical.loads(ledger.get(name), name)
        evidence = str(document.get("evidence")) if isinstance(document, dict) else ""
        in_line = name == _name(prefix, number) and document == _document(holdout, target, number, evidence)
        if not in_line or not _DIGEST.fullmatch(evidence):
            raise Refused(name, "an attempt out of line", f"attempt {number} on this hold-out, for this target")
        found.append(evidence)
    return found


def charge(ledger: Ledger, evidence: Evidence, target: Target) -> list[str]:
    """Make evidence an attempt, unless it is one already; safe among processes.

    Returns:
        The evidence ids of all attempts up to and including this one: its number is how many there are.

    Raises:
        UnfitInput: evidence that names no hold-out.
        Refused: as `attempts`.
    """
    holdout, wanted = holdout_of(evidence), evidence.id
    prefix = f"attempts/{holdout}/{place_of(target)}/"
    for _ in range(MOST_RACES):
        there = attempts(ledger, holdout, target)
        if wanted in there:
            return there[: there.index(wanted) + 1]
        number = len(there) + 1
        try:
            ledger.put(_name(prefix, number), canonical.dumps(_document(holdout, target, number, wanted)))
        except Conflict:  # another measurement took this number
            continue
        return [*there, wanted]
    raise AssayError(f"ledger {prefix}", f"{MOST_RACES} lost races", "a free number", "Run it again.")


def _name(prefix: str, number: int) -> str:
    return f"{prefix}{number:08d}.json"


def _document(holdout: str, target: Target, number: int, evidence: str) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "holdout": holdout,
        "target": target.to_json(),
        "number": number,
        "evidence": evidence,
    }
