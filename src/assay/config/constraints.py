"""What a row of a table is and how an adversary may move it, as ``assay.yaml`` declares it."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import pydantic

from assay.config.base import Section

Column = Annotated[str, pydantic.Field(min_length=1, max_length=256)]
Budget = Annotated[float, pydantic.Field(gt=0)]

__all__ = ["ConstraintsConfig", "RelationConfig", "with_constraints"]


class RelationConfig(Section):
    """``at_least <= sum of weight * column <= at_most``; one end may be left out, two equal ones are an equation.

    Fields:
        sum: weight of each column; ``{debt: 1, income: -1}`` with ``at_most: 0`` says that debt is at most income.
        at_least, at_most: the ends.
    """

    sum: dict[Column, float] = pydantic.Field(min_length=1)
    at_least: float | None = None
    at_most: float | None = None

    @pydantic.model_validator(mode="after")
    def _says_something(self) -> RelationConfig:
        if not all(self.sum.values()):
            raise ValueError("every weight is other than 0")
        ends = [end for end in (self.at_least, self.at_most) if end is not None]
        if not ends or ends != sorted(ends):
            raise ValueError("at_least, at_most or both, the least first")
        return self


class ConstraintsConfig(Section):
    """Declared once, for sanitize and for evaluate; columns by name.

    Of every row: ``integer``, ``one_hot``, ``relations``; sanitize quarantines what breaks one. Of an attack: the rest.

    Fields:
        immutable: never move.
        only_up, only_down: move in one direction.
        integer: hold whole numbers.
        one_hot: groups of columns of which exactly one is 1 and the others are 0.
        budgets: how far a column moves at most, in its own units.
        budgets_sd: the same in standard deviations of the column over the records that the model is measured on.
        relations: linear relations between columns.
    """

    immutable: tuple[Column, ...] = ()
    only_up: tuple[Column, ...] = ()
    only_down: tuple[Column, ...] = ()
    integer: tuple[Column, ...] = ()
    one_hot: tuple[Annotated[tuple[Column, ...], pydantic.Field(min_length=2)], ...] = ()
    budgets: dict[Column, Budget] = pydantic.Field(default_factory=dict)
    budgets_sd: dict[Column, Budget] = pydantic.Field(default_factory=dict)
    relations: tuple[RelationConfig, ...] = ()

    def named(self) -> list[str]:
        """Every column that is spoken of."""
        groups = [self.immutable, self.only_up, self.only_down, self.integer, *self.one_hot, self.budgets]
        groups += [self.budgets_sd, *(relation.sum for relation in self.relations)]
        return [name for group in groups for name in group]

    @pydantic.model_validator(mode="after")
    def _agrees(self) -> ConstraintsConfig:
        if not self.named():
            raise ValueError("at least one constraint")
        grouped = [name for group in self.one_hot for name in group]
        said: dict[str, list[str]] = {
            "immutable, only_up or only_down": [*self.immutable, *self.only_up, *self.only_down],
            "one_hot or integer": [*grouped, *self.integer],
            "budgets or budgets_sd": [*self.budgets, *self.budgets_sd],
            "immutable, budgets or budgets_sd": [*self.immutable, *self.budgets, *self.budgets_sd],
        }
        for where, names in said.items():
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise ValueError(f"{twice[0]!r} twice in {where}")
        return self


def with_constraints(document: dict[str, Any]) -> dict[str, Any]:
    """A whole ``assay.yaml`` with its section ``constraints`` given to the sections that keep to it.

    A section that has constraints of its own keeps them, so that a document that was written out reads back the same.
    """
    if document.get("constraints") is None:
        return document
    given = {name: document.get(name) or {} for name in ("sanitize", "evaluate")}
    shared = {
        name: {"constraints": document["constraints"]} | section
        for name, section in given.items()
        if isinstance(section, dict)
    }
    return {key: value for key, value in document.items() if key != "constraints"} | shared
