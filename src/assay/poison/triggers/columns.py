"""Some columns of a table set to values of their own."""

from __future__ import annotations

from dataclasses import dataclass

from assay.errors import UnfitInput
from assay.poison.triggers import Images

__all__ = ["Columns"]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns of a table set to fixed values: the patch of tabular data.

    Fields:
        columns: their numbers, each once.
        values: one a column, in the units of the table.

    Reference: Joe, Mehra, Shin and Hamm. Machine Learning with Electronic Health Records is vulnerable to Backdoor
        Trigger Attacks. 2021. arXiv:2106.07925, for backdoors in tables; the fixed values are the simplest of them.
    """

    columns: tuple[int, ...] = (0,)
    values: tuple[float, ...] = (1.0,)

    def __call__(self, images: Images) -> Images:
        """Stamped copies of rows (N, D)."""
        columns, values = list(self.columns), list(self.values)
        fits = images.ndim == 2 and all(0 <= column < images.shape[1] for column in columns)
        if not fits or not columns or len(set(columns)) != len(columns) or len(values) != len(columns):
            got = f"columns {columns}, values {values} on inputs of shape {images.shape[1:]}"
            raise UnfitInput("trigger", got, "rows of a table, columns of it, each once, and a value for each")
        stamped = images.copy()
        stamped[:, columns] = values
        return stamped
