"""One share of a work that several machines do, as the command line and pipelines write it: ``2/8``."""

from __future__ import annotations

import re
from typing import Annotated

import pydantic

from assay.config.base import Section
from assay.errors import UnfitInput

_SHARD = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")

__all__ = ["Shard"]


class Shard(Section):
    """Shard ``number`` (from 1) of ``of``."""

    number: Annotated[int, pydantic.Field(strict=True, ge=1)]
    of: Annotated[int, pydantic.Field(strict=True, ge=1)]

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def read(cls, text: str) -> Shard:
        """``2/8`` is the second of eight.

        Raises:
            UnfitInput: another form, or a number beyond the last.
        """
        match = _SHARD.fullmatch(text)
        if match is None or int(match[1]) > int(match[2]):
            raise UnfitInput("shard", repr(text)[:80], "number/of from 1/1 on, such as 2/8")
        return cls(number=int(match[1]), of=int(match[2]))

    def blocks(self, count: int) -> range:
        """Every ``of``-th of so many blocks, for work that a block may need more of than its neighbour."""
        return range(self.number - 1, count, self.of)

    def stretch(self, count: int) -> range:
        """As many neighbouring blocks, for sums that join where blocks do."""
        return range((self.number - 1) * count // self.of, self.number * count // self.of)
