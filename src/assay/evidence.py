"""Evidence: what was measured about a model, on which records, under which attack, and how.

Written as a signed statement. Times, host names, run ids and durations live only in the predicate's ``run`` object;
the evidence id is the SHA-256 of the canonical payload without it, so the same measurement made twice is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer

from assay import canonical
from assay.errors import UnfitInput
from assay.estimate import Estimate
from assay.signing import seal, statement
from assay.threat import ThreatModel

KIND = "evidence"
VERDICTS = ("holds", "misses", "not_measured")
ERRORS = ("mae", "rmse", "_error", "error_under_attack")
"""How names of estimates end of which less is better."""

__all__ = ["KIND", "Evidence", "less_is_better", "minus_champion", "payload_id", "robust", "sets_of"]


def robust(name: str, threat: ThreatModel) -> str:
    """The name of an estimate made under a threat model, such as ``robust_accuracy/linf:0.1``."""
    return f"{name}/{threat.key}"


def minus_champion(name: str) -> str:
    """The name of the difference to the champion, on the same records."""
    return f"{name}_minus_champion"


def less_is_better(name: str) -> bool:
    """Whether an estimate is of errors: its difference to the champion is below 0 where the model is better.

    Args:
        name: of the estimate, with or without slice and threat.
    """
    return re.split(r"[\[/]", name)[0].endswith(ERRORS)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Named estimates about exactly one model and one evaluation set.

    Fields:
        subjects: SHA-256 by name: ``model`` (digest of its folder), ``holdout`` (manifest digest of the records it was
            measured on), ``dataset`` (manifest digest of the records it was trained on, as the model says), and, where
            there is one, ``champion``.
        estimates: by name; one made under a threat model ends in ``/<threat key>``. Accuracies and other shares lie in
            [0, 1]; ``*_minus_champion`` are paired differences, the model's less the champion's.
        measured: how: ``threats`` (by key), ``attacks`` (by name, with every setting), ``seed``, ``threads``,
            ``device``, ``versions``, ``code``, ``image``, ``trained_against``.
        soundness: name of each soundness check and what it said: ``holds``, ``misses`` or ``not_measured``.
        truncated: a limit of time or work cut the measurement short.
        run: run id, times, host: all that may differ between two equal measurements. ``ended`` is the instant the
            measurement ended, ISO 8601 with zone; the gate counts age from there.
    """

    subjects: dict[str, str]
    estimates: dict[str, Estimate]
    measured: dict[str, Any]
    soundness: dict[str, str] = field(default_factory=dict)
    truncated: bool = False
    run: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, said in self.soundness.items():
            if said not in VERDICTS:
                raise UnfitInput(f"evidence: soundness {name}", repr(said), f"one of {', '.join(VERDICTS)}")

    @property
    def data(self) -> tuple[str, ...]:
        """Manifest digests of the records that the model learned from and was measured on, as far as it names them."""
        return tuple(digest for name in ("dataset", "holdout") if (digest := self.subjects.get(name, "")))

    @property
    def sets(self) -> dict[str, str]:
        """Manifest digest of every named set of other records that an aspect was measured or fitted on.

        Raises:
            UnfitInput: sets of another form; whoever asks what lies behind the evidence cannot be told.
        """
        return sets_of(self.measured)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Manifest digests of all records behind it, each once: `data`, and the sets."""
        return tuple(dict.fromkeys((*self.data, *self.sets.values())))

    def to_statement(self) -> dict[str, Any]:
        """The in-toto Statement, ``run`` included."""
        predicate = {
            "estimates": {name: estimate.to_json() for name, estimate in self.estimates.items()},
            "measured": self.measured,
            "soundness": self.soundness,
            "truncated": self.truncated,
            "run": self.run,
        }
        return statement(KIND, self.subjects, predicate)

    @property
    def id(self) -> str:
        """The evidence id."""
        return payload_id(self.to_statement())

    @property
    def sound(self) -> bool:
        """Every soundness check that ran holds, and at least one ran."""
        said = set(self.soundness.values())
        return "holds" in said and "misses" not in said

    @property
    def measured_at(self) -> datetime | None:
        """When the measurement ended, or None where ``run`` names no instant with a zone."""
        try:
            instant = datetime.fromisoformat(self.run["ended"])
        except (KeyError, TypeError, ValueError):
            return None
        return instant if instant.tzinfo is not None else None

    def write(self, path: Path | str, signers: Iterable[Signer]) -> bytes:
        """Write the envelope whole; returns its bytes."""
        from assay.data.files import write_file

        data = seal(self.to_statement(), signers)
        write_file(path, data)
        return data

    @classmethod
    def from_statement(cls, document: Mapping[str, Any]) -> Evidence:
        """Read a verified statement; anything missing or of another shape is an error."""
        try:
            body = document["predicate"]
            subjects = {entry["name"]: entry["digest"]["sha256"] for entry in document["subject"]}
            if len(subjects) != len(document["subject"]):
                raise ValueError("one subject twice")
            if not isinstance(body["truncated"], bool):
                raise TypeError(f"truncated is {body['truncated']!r}")
            return cls(
                subjects=subjects,
                estimates={name: Estimate.from_json(value) for name, value in body["estimates"].items()},
                measured=dict(body["measured"]),
                soundness=dict(body["soundness"]),
                truncated=body["truncated"],
                run=dict(body["run"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UnfitInput(
                "evidence", f"{type(error).__name__}: {error}", "an assay.evidence/v1 predicate"
            ) from error


def sets_of(measured: Mapping[str, Any]) -> dict[str, str]:
    """Manifest digest by name of the sets in ``measured``; none where evidence was made without any.

    Raises:
        UnfitInput: sets of another form.
    """
    given = measured.get("sets") or {}
    try:
        found = {str(name): str(facts["manifest"]) for name, facts in given.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise UnfitInput("evidence: sets", f"{type(error).__name__}: {error}", "a manifest digest by name") from error
    for name, digest in found.items():
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise UnfitInput(f"evidence: set {name}", repr(digest)[:80], "the SHA-256 of a manifest")
    return found


def payload_id(document: Mapping[str, Any]) -> str:
    """SHA-256 of a statement's canonical payload without its predicate's ``run`` object."""
    predicate = {key: value for key, value in document["predicate"].items() if key != "run"}
    return canonical.digest({**document, "predicate": predicate})
