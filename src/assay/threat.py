"""What an adversary may do, as plain data: no torch here, so the gate and the policy can speak of it too."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

from assay.constraints import Constraints
from assay.errors import UnfitInput, UnknownName

Norm = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")

__all__ = ["NORMS", "Norm", "ThreatModel"]


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """A ball around each input, cut by the box of valid inputs.

    Fields:
        norm: ``linf``, ``l2``, ``l1``, or ``l0``: the number of features of the flattened input that change, so that a
            pixel of three channels counts as up to three.
        epsilon: radius in the units of the model's input; above 0 and at most the size of the box in that norm
            per feature (for ``linf`` the width of the box); for ``l0`` a whole number.
        bounds: the box: least and greatest valid value of every feature.
        goal: ``untargeted`` (any wrong class) or ``targeted``.
        knowledge: ``white-box``, ``black-box`` or ``transfer``.
        query_budget: queries an example may cost; only for ``black-box``.
        constraints: for a table, what its rows are and how each column may move; None for no such limits.

    Evidence for one threat model never answers for another: `key` tells two apart.

    Raises:
        UnfitInput: a radius or box that is empty, unbounded or not finite, or constraints in ``l0``.
    """

    norm: Norm = "linf"
    epsilon: float
    bounds: tuple[float, float] = (0.0, 1.0)
    goal: Literal["untargeted", "targeted"] = "untargeted"
    knowledge: Literal["white-box", "black-box", "transfer"] = "white-box"
    query_budget: int | None = None
    constraints: Constraints | None = None

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise UnknownName("threat norm", str(self.norm), NORMS)
        low, high = self.bounds
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UnfitInput("threat.bounds", f"[{low}, {high}]", "two finite values, the least first")
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise UnfitInput(
                "threat.epsilon", f"{self.epsilon}", "a radius above 0", "For clean accuracy use no attack."
            )
        if self.norm == "linf" and self.epsilon > high - low:
            raise UnfitInput("threat.epsilon", f"{self.epsilon}", f"at most the width of the box, {high - low}")
        if self.norm == "l0" and self.epsilon % 1:
            raise UnfitInput("threat.epsilon", f"{self.epsilon}", "a whole number of features")
        if self.norm == "l0" and self.constraints is not None:
            raise UnfitInput("threat", "l0 with constraints", "linf, l2 or l1", "No attack here moves in both.")
        if (self.query_budget is not None) != (self.knowledge == "black-box"):
            raise UnfitInput(
                "threat.query_budget",
                f"{self.query_budget} with knowledge {self.knowledge}",
                "one exactly for black-box",
            )

    @property
    def key(self) -> str:
        """Short text that names this threat model, such as ``linf:0.1``, for estimates and policies."""
        marks: list[str] = (
            [] if (self.goal, self.knowledge) == ("untargeted", "white-box") else [self.goal, self.knowledge]
        )
        marks += [] if self.query_budget is None else [f"queries-{self.query_budget}"]
        marks += [] if self.constraints is None else [self.constraints.key]
        box = [] if self.bounds == (0.0, 1.0) else [f"[{self.bounds[0]:g},{self.bounds[1]:g}]"]
        return ":".join([self.norm, repr(self.epsilon), *box, *marks])

    def to_json(self) -> dict[str, Any]:
        """Plain data for canonical JSON; ``constraints`` only where there are some."""
        document = asdict(self) | {"bounds": list(self.bounds)}
        return document if self.constraints is not None else {k: v for k, v in document.items() if k != "constraints"}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ThreatModel:
        """The reverse of `to_json`."""
        low, high = document["bounds"]
        given = document.get("constraints")
        plain = document | {"bounds": (float(low), float(high)), "epsilon": float(document["epsilon"])}
        return cls(**plain | {"constraints": None if given is None else Constraints.from_json(given)})

    @classmethod
    def parse(cls, text: str, bounds: tuple[float, float] = (0.0, 1.0)) -> ThreatModel:
        """Read ``norm:epsilon``, where epsilon is a decimal or a fraction: ``linf:8/255``, ``l2:0.5``.

        Raises:
            UnfitInput: another form.
        """
        match = re.fullmatch(r"([a-z0-9]+):([0-9.eE+-]+(?:/[0-9]+)?)", text)
        try:
            if match is None:
                raise ValueError(text)
            top, _, bottom = match[2].partition("/")
            epsilon = float(Fraction(top) / Fraction(bottom or 1))
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            raise UnfitInput("threat", repr(text), "norm:epsilon, such as linf:8/255 or l2:0.5") from error
        return cls(norm=match[1], epsilon=epsilon, bounds=bounds)  # type: ignore[arg-type]  # checked on construction
