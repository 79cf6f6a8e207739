"""Every error assay raises on purpose. Each says where, what came, what is needed and what to do.

AssayError              exit 3  could not decide; also the fate of an unexpected error
├── UnfitInput          exit 2  the input or the usage is wrong
│   ├── UnknownName     exit 2  a name nobody knows; carries the nearest known one
│   └── Conflict        exit 2  a name that is taken for ever, by other bytes
├── Refused             exit 1  the answer is no: a signature, a digest, a decision does not hold
└── Unreachable         exit 3  a service (MLflow, storage, Kubeflow) did not answer within the bound
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = ["AssayError", "Conflict", "Refused", "UnfitInput", "UnknownName", "Unreachable", "needed", "redacted"]

SHOWN = 40  # of the known names, in a sentence
_USERINFO = re.compile(r"(?<=://)[^\s/?#'\"]*@")
_SECRET = re.compile(r"(?i)((?:password|passwd|pwd|token|secret|api_?key)=)[^\s&'\"]+")


def redacted(text: str) -> str:
    """Text in which no address names a user or a password: libraries repeat what they were given."""
    return _SECRET.sub(r"\1***", _USERINFO.sub("", text))


def needed(said: str) -> str:
    """What pydantic says is wrong, in words that follow "need"."""
    said = re.sub(r"^(Value error, |Assertion failed, )", "", said)
    said = re.sub(r"^Field required$", "a value", said)
    said = re.sub(r"^Input should be (an? )?valid dictionary( or instance of \w+)?$", "a mapping", said)
    said = re.sub(r"^Input should be (an? )?valid tuple$", "a list", said)
    said = re.sub(r"^(?:Input|Value|URL) should be ", "", said)
    said = re.sub(r"^String should match pattern ", "text of the form ", said)
    return re.sub(r"^(?:String|Tuple|List|Dictionary) should have (.*?)(?: after validation.*)?$", r"\1", said)


class AssayError(Exception):
    """Base of all errors raised on purpose.

    Attributes:
        where: the argument, file, line or record that is at fault.
        got: what came.
        need: what is needed.
        fix: what to do about it.

    Credentials in an address are left out of all four.
    """

    exit_code = 3

    def __init__(self, where: str, got: str = "", need: str = "", fix: str = "") -> None:
        self.where, self.got, self.need, self.fix = map(redacted, (where, got, need, fix))
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        facts = ", ".join(part for part in (self.got and f"got {self.got}", self.need and f"need {self.need}") if part)
        head = f"{self.where}: {facts}." if facts else f"{self.where}."
        return f"{head} {self.fix}" if self.fix else head


class UnfitInput(AssayError):
    """The input or the usage is wrong; nothing was written."""

    exit_code = 2


class UnknownName(UnfitInput):
    """A name that nobody knows.

    Attributes:
        close: the nearest known name, or None.
        known: all known names.
    """

    def __init__(self, where: str, got: str, known: Iterable[str]) -> None:
        self.known = sorted(known)
        self.close = next(iter(difflib.get_close_matches(got, self.known, n=1, cutoff=0.5)), None)
        hint = f"Did you mean {self.close!r}? " if self.close else ""
        more = [f"and {len(self.known) - SHOWN} more"] if len(self.known) > SHOWN else []
        shown = ", ".join([*self.known[:SHOWN], *more])
        super().__init__(f"unknown {where} {got!r}", fix=f"{hint}Known: {shown or 'none'}.")
        self.got = got


class Conflict(UnfitInput):
    """A name in a create-once store is already bound to other bytes."""


class Refused(AssayError):
    """The answer is no: what was asked for does not hold."""

    exit_code = 1


class Unreachable(AssayError):
    """A service did not answer within the stated bound; nothing was changed there."""
