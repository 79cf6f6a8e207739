"""What a row of a table is, and how an adversary may move it: plain data, declared once for ingestion and for attacks.

Some of it holds of every row by itself: integers, one-hot groups, linear relations between columns. Sanitize
quarantines a record that breaks one, and no adversarial record that breaks one counts. The rest limits the way from a
row to its adversarial copy: immutable columns, columns that only rise or only fall, budgets. `Constraints.faults` is
the one verifier of the former and `Constraints.reachable` of the latter; neither knows how an attack projects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.config.constraints import ConstraintsConfig
from assay.errors import UnfitInput, UnknownName

ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""Relative slack of a comparison of float32 values; integers, one-hot groups and immutable columns have none."""

Floats = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

__all__ = ["Constraints", "Relation", "bind"]


@dataclass(frozen=True, kw_only=True)
class Relation:
    """``coefficients @ row <= bound``.

    Fields:
        coefficients: one a column, most of them 0.
        bound: the greatest value of the sum.
    """

    coefficients: tuple[float, ...]
    bound: float


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """A declaration bound to the columns of a table.

    Fields:
        key: names the declaration: ``tabular-`` and 12 digits of its SHA-256.
        columns: names, in the order of the model's input.
        down, up: how far each column may fall and rise, in its own units; 0 for not at all, None for as far as ball
            and box let it.
        integer: whether each column holds whole numbers only.
        one_hot: positions of the columns of each group, of which exactly one is 1 and the others 0.
        relations: all of them hold.
    """

    key: str
    columns: tuple[str, ...]
    down: tuple[float | None, ...]
    up: tuple[float | None, ...]
    integer: tuple[bool, ...]
    one_hot: tuple[tuple[int, ...], ...] = ()
    relations: tuple[Relation, ...] = ()

    @property
    def discrete(self) -> bool:
        """Whether some column cannot move freely between two values."""
        return any(self.integer) or bool(self.one_hot)

    def reach(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """``down`` and ``up`` as arrays (D,), infinite where nothing is said."""
        down, up = (np.array([math.inf if far is None else far for far in side]) for side in (self.down, self.up))
        return down, up

    def faults(self, rows: Floats) -> dict[str, Mask]:
        """What each row breaks by itself.

        Args:
            rows: (N, D), in the order of ``columns``.

        Returns:
            By reason, such as ``not_integer(age)``, ``not_one_hot(own/rent)`` or ``breaks(debt - income <= 0)``, the
            rows at fault, (N,); a value that is not finite is at fault wherever it is looked at.
        """
        rows = self._shaped(rows)
        found: dict[str, Mask] = {}
        for at in np.flatnonzero(self.integer):
            found[f"not_integer({self.columns[at]})"] = ~(rows[:, at] == np.rint(rows[:, at])) | ~np.isfinite(
                rows[:, at]
            )
        for group in self.one_hot:
            values = rows[:, list(group)]
            whole = ((values == 0) | (values == 1)).all(1) & (values.sum(1) == 1)
            found[f"not_one_hot({'/'.join(self.columns[at] for at in group)})"] = ~whole
        for relation in self.relations:
            found[f"breaks({self.spelled(relation)})"] = ~_fulfils(relation, rows)
        return found

    def reachable(self, rows: Floats, moved: Floats) -> Mask:
        """Whether each row may become the moved one: directions and budgets kept, nothing immutable moved, (N,)."""
        rows, moved = self._shaped(rows), self._shaped(moved)
        down, up = self.reach()
        slack = ROUNDING * np.maximum(np.abs(rows), np.abs(moved))
        slack[:, (down == 0) & (up == 0)] = 0
        with np.errstate(invalid="ignore"):
            step = moved - rows
            return np.asarray(((step >= -down - slack) & (step <= up + slack)).all(1))

    def holds(self, rows: Floats, moved: Floats) -> Mask:
        """Whether each moved row is a sound row that its origin may become, (N,)."""
        at_fault = [*self.faults(moved).values(), np.zeros(len(moved), np.bool_)]
        return np.asarray(self.reachable(rows, moved) & ~np.logical_or.reduce(at_fault))

    def spelled(self, relation: Relation) -> str:
        """A relation for people, such as ``debt - income <= 0``."""
        terms = [(weight, name) for weight, name in zip(relation.coefficients, self.columns, strict=True) if weight]
        text = " ".join(
            f"{'-' if weight < 0 else '+'} {'' if abs(weight) == 1 else f'{abs(weight):g} * '}{name}"
            for weight, name in terms
        )
        return f"{text.removeprefix('+ ')} <= {relation.bound:g}"

    def to_json(self) -> dict[str, Any]:
        """Plain data for canonical JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Constraints:
        """The reverse of `to_json`."""
        lists = {name: tuple(document[name]) for name in ("columns", "down", "up", "integer")}
        relations = tuple(
            Relation(coefficients=tuple(map(float, it["coefficients"])), bound=float(it["bound"]))
            for it in document["relations"]
        )
        one_hot = tuple(tuple(group) for group in document["one_hot"])
        return cls(key=document["key"], **lists, one_hot=one_hot, relations=relations)

    def _shaped(self, rows: Floats) -> npt.NDArray[np.float64]:
        if rows.ndim != 2 or rows.shape[1] != len(self.columns):
            raise UnfitInput("constraints", f"rows of shape {rows.shape}", f"(N, {len(self.columns)}): {self.columns}")
        return rows.astype(np.float64)


def bind(
    declared: ConstraintsConfig, columns: Sequence[str], deviations: npt.NDArray[np.float64] | None = None
) -> Constraints:
    """A declaration on the columns of a table.

    Args:
        declared: as in ``assay.yaml``.
        columns: names of the table's numeric columns, in order.
        deviations: (D,) standard deviation of each column, for budgets in such units; without it they limit nothing,
            which is enough for judging rows by themselves.

    Raises:
        UnknownName: a column that the table does not have.
    """
    place = {name: at for at, name in enumerate(columns)}
    for name in declared.named():
        if name not in place:
            raise UnknownName("constraints: column", name, columns)
    wide = np.ones(len(columns)) if deviations is None else deviations
    budgets = dict(declared.budgets)
    budgets |= (
        {}
        if deviations is None
        else {name: times * float(wide[place[name]]) for name, times in declared.budgets_sd.items()}
    )
    fixed = set(declared.immutable)
    return Constraints(
        key=f"tabular-{declared.digest[:12]}",
        columns=tuple(columns),
        down=tuple(0.0 if name in fixed | set(declared.only_up) else budgets.get(name) for name in columns),
        up=tuple(0.0 if name in fixed | set(declared.only_down) else budgets.get(name) for name in columns),
        integer=tuple(name in declared.integer for name in columns),
        one_hot=tuple(tuple(place[name] for name in group) for group in declared.one_hot),
        relations=tuple(
            row for given in declared.relations for row in _rows(given.sum, given.at_least, given.at_most, columns)
        ),
    )


def _rows(
    terms: Mapping[str, float], at_least: float | None, at_most: float | None, columns: Sequence[str]
) -> list[Relation]:
    weights = tuple(float(terms.get(name, 0.0)) for name in columns)
    rows = [] if at_most is None else [Relation(coefficients=weights, bound=at_most)]
    if at_least is not None:
        rows.append(Relation(coefficients=tuple(-weight if weight else 0.0 for weight in weights), bound=-at_least))
    return rows


def _fulfils(relation: Relation, rows: npt.NDArray[np.float64]) -> Mask:
    weights = np.array(relation.coefficients)
    used = weights != 0
    slack = ROUNDING * (np.abs(rows[:, used]) @ np.abs(weights[used]) + abs(relation.bound))
    with np.errstate(invalid="ignore"):
        return np.asarray(rows[:, used] @ weights[used] <= relation.bound + slack)
