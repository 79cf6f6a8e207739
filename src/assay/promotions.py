"""The signed promotions of a target, as the ledger holds them: who is champion, and in which order it went.

``promotions/<model>@<alias>/<sequence>.dsse.json``: sequences begin at 1 and have no gap; each names the one before.
The highest is the champion. MLflow's alias is a copy of it.

A rollback is a promotion too, under the next sequence: it names the earlier one whose model it brings back, and shares
its version in the registry. So the order only ever goes forward, and an old promotion replayed is never taken for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from assay.config.base import parse
from assay.config.root import Target
from assay.errors import Refused, UnfitInput
from assay.evidence import payload_id
from assay.keyring import Keyring
from assay.ledger import Ledger
from assay.signing import require_valid_at, unseal

KIND = "promotion"
OWN = ("model", "evidence", "decision")

__all__ = [
    "KIND",
    "Promotion",
    "at_place",
    "champion",
    "history",
    "journal_name",
    "name_of",
    "place_of",
    "places",
    "target_of",
    "targets",
]


@dataclass(frozen=True)
class Promotion:
    """One verified promotion.

    Fields:
        id: of its statement.
        target: model name and alias.
        sequence: from 1.
        model, evidence, decision: digest of the model folder, and the ids it rests on.
        previous: id of the promotion before, or empty for the first.
        promoted_at: the instant it names.
        origin, origin_sequence: the promotion that made the version: itself, or the one that a rollback goes back to.
        bound: what it names beside these, name to SHA-256: ``policy``, ``dataset``, ``holdout`` and every file of the
            model, as ``file/<name>``.
    """

    id: str
    target: Target
    sequence: int
    model: str
    evidence: str
    decision: str
    previous: str
    promoted_at: datetime
    origin: str
    origin_sequence: int
    bound: Mapping[str, str]

    @property
    def is_rollback(self) -> bool:
        """Whether it brings an earlier model back."""
        return self.origin != self.id

    @classmethod
    def from_statement(cls, document: dict[str, Any], where: str) -> Promotion:
        """Read a verified statement.

        Raises:
            Refused: a field is missing or of another shape, or predicate and subjects disagree.
        """
        try:
            body = document["predicate"]
            subjects = {entry["name"]: entry["digest"]["sha256"] for entry in document["subject"]}
            if (body["evidence"], body["decision"]) != (subjects["evidence"], subjects["decision"]):
                raise ValueError("predicate and subjects name different evidence or decisions")
            if not all(type(body[name]) is kind for name, kind in (("sequence", int), ("previous", str))):
                raise TypeError(f"sequence {body['sequence']!r} after {body['previous']!r}")
            promoted_at = datetime.fromisoformat(body["run"]["promoted_at"])
            if promoted_at.tzinfo is None:
                raise ValueError("promoted_at has no zone")
            made = payload_id(document)
            origin = body.get("rollback") or {"promotion": made, "sequence": body["sequence"]}
            return cls(
                id=made,
                target=Target(**body["target"]),
                sequence=body["sequence"],
                model=subjects["model"],
                evidence=subjects["evidence"],
                decision=subjects["decision"],
                previous=body["previous"],
                promoted_at=promoted_at,
                origin=str(origin["promotion"]),
                origin_sequence=int(origin["sequence"]),
                bound={name: digest for name, digest in subjects.items() if name not in OWN},
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise Refused(where, f"{type(error).__name__}: {error}", "an assay.promotion/v1 predicate") from error


def target_of(text: str) -> Target:
    """Read ``<model>@<alias>``, or ``<model>`` alone for its alias ``champion``.

    Raises:
        UnfitInput: another form, or a name that the registry refuses.
    """
    model, at, alias = text.partition("@")
    return parse(Target, {"model": model} | ({"alias": alias} if at else {}), "target")


def place_of(target: Target) -> str:
    """The target as the ledger and people write it: ``<model>@<alias>``."""
    return f"{target.model}@{target.alias}"


def name_of(target: Target, sequence: int) -> str:
    """The ledger's name of one promotion."""
    return f"promotions/{place_of(target)}/{sequence:08d}.dsse.json"


def journal_name(promotion: Promotion) -> str:
    """The ledger's name of the note that version and alias were made."""
    return f"journal/{place_of(promotion.target)}/{promotion.sequence:08d}.json"


def places(ledger: Ledger) -> list[str]:
    """Every place that something was promoted to, as the ledger has it: whoever can write there may have made it up."""
    return sorted({name.split("/")[1] for name in ledger.names("promotions/")})


def targets(ledger: Ledger) -> list[Target]:
    """Every target that something was promoted to.

    Raises:
        UnfitInput: a place in the ledger that is no target.
    """
    return [at_place(place) for place in places(ledger)]


def at_place(place: str) -> Target:
    """The target that `place_of` writes so; every other text is refused.

    Raises:
        UnfitInput: a place that is no target.
    """
    target = target_of(place)
    if place_of(target) != place:
        raise UnfitInput(f"ledger promotions/{place}", repr(place), "<model>@<alias>")
    return target


def history(ledger: Ledger, keyring: Keyring, target: Target) -> list[Promotion]:
    """Every promotion of a target, first to last, each verified.

    Raises:
        Refused: a signature, the target, a sequence, the link to the one before or that of a rollback does not hold:
            somebody changed the ledger, or a promoter's key is missing from the keyring.
    """
    found: list[Promotion] = []
    for sequence, name in enumerate(_names(ledger, target), 1):
        opened = unseal(ledger.get(name), keyring, kind=KIND, role="promoter", where=name)
        made = Promotion.from_statement(opened.statement, name)
        before = found[-1].id if found else ""
        got = (made.target, made.sequence, made.previous, name)
        if got != (target, sequence, before, name_of(target, sequence)):
            raise Refused(name, f"sequence {made.sequence} after {made.previous[:12] or 'none'}", "an unbroken chain")
        require_valid_at(opened, keyring, "promoter", made.promoted_at, name)
        if made.is_rollback:
            _require_origin(made, found, name)
        found.append(made)
    return found


def _require_origin(made: Promotion, before: list[Promotion], name: str) -> None:
    """A rollback repeats model, evidence and decision of an earlier promotion that is no rollback itself."""
    origin = next((one for one in before if one.id == made.origin), None)
    same = origin is not None and not origin.is_rollback and origin.sequence == made.origin_sequence
    if not same or origin is None or _rests_on(origin) != _rests_on(made):
        raise Refused(name, f"a rollback to {made.origin_sequence}", "an earlier promotion of the same model")


def _rests_on(made: Promotion) -> tuple[str, str, str]:
    return made.model, made.evidence, made.decision


def champion(promotions: list[Promotion], besides: str) -> str:
    """The digest of the last promoted model other than ``besides``, or empty when there is none.

    A model is never compared with itself: measured again after its own promotion, it meets the champion it met before,
    so a repeated run gives the same evidence.
    """
    return next((made.model for made in reversed(promotions) if made.model != besides), "")


def _names(ledger: Ledger, target: Target) -> Iterator[str]:
    yield from ledger.names(f"promotions/{place_of(target)}/")
