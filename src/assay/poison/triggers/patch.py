"""A square of one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from assay.errors import UnfitInput
from assay.poison.triggers import Images, extent

Corner = Literal["top_left", "top_right", "bottom_left", "bottom_right"]

__all__ = ["Corner", "Patch"]


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A square of one value, in a corner or at a place: BadNets.

    Fields:
        size: side in pixels.
        value: the pixels' value, in the units of the images.
        corner: where, unless ``row`` and ``column`` say it.
        row, column: the upper left pixel; both or neither.

    Reference: Gu, Dolan-Gavitt and Garg. BadNets. 2017. arXiv:1708.06733.
    """

    size: int = 2
    value: float = 1.0
    corner: Corner = "bottom_right"
    row: int | None = None
    column: int | None = None

    def __call__(self, images: Images) -> Images:
        """Stamped copies of images (N, C, H, W)."""
        height, width = extent(images)
        row, column = self._place(height, width)
        inside = 0 <= row <= height - self.size and 0 <= column <= width - self.size
        if self.size < 1 or not inside:
            raise UnfitInput("trigger", f"{self} on images of {height}x{width}", "a square inside the images")
        stamped = images.copy()
        stamped[:, :, row : row + self.size, column : column + self.size] = self.value
        return stamped

    def _place(self, height: int, width: int) -> tuple[int, int]:
        if (self.row is None) != (self.column is None):
            raise UnfitInput("trigger", f"row {self.row}, column {self.column}", "both or neither")
        if self.row is not None and self.column is not None:
            return self.row, self.column
        vertical, horizontal = self.corner.split("_")
        return 0 if vertical == "top" else height - self.size, 0 if horizontal == "left" else width - self.size
