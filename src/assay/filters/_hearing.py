"""Whose word counts: what detectors say of an instrument, or by spoiled proxies, is no sign of poison.

An honest source may scale, soften or brighten its records, in every class of it: what a detector of instruments says of
one origin in several classes is set aside. Where origins are compared as a whole, what it says of the others goes with
it, since they were compared with that one.

Proxies that held out one source have learned from the others. Where one of these is poisoned, its own records are
judged by proxies that learned none of that, and those of the others by proxies that did, in all classes alike. So where
a class is flagged by detectors that are one function for all sources, the held-out proxies are not heard of classes in
which they speak alone, unless louder than those: wrong labels are loudest there.

All of this can only take removals away, so that the false-alarm rate holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from assay.filters._evidence import Cell

SEVERAL, SHARE_OF_CLASSES = 3, 0.2
LIKELY = 0.5
INSTRUMENT = "so in several classes: origin"
SPOILED = "alone in other classes than those flagged, of which its proxies may have learned: filter once more"

__all__ = ["Speaker", "heard", "in_several"]

Cells = Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Speaker:
    """A detector: is it one function for all sources, does it speak of instruments, compare origins as a whole?"""

    name: str
    one: bool
    instrument: bool
    compares: bool


def in_several(found: int, classes: int) -> bool:
    """Whether so many classes are more than a backdoor is in: three or more, and above a fifth of all."""
    return found >= SEVERAL and found > SHARE_OF_CLASSES * classes


def heard(
    cells: Cells, speakers: Sequence[Speaker], p_of: Callable[[Cell], float], rate: float, name: Callable[[Cell], str]
) -> tuple[list[list[Cell]], dict[str, str]]:
    """The cells of every class that count, and by detector what was not heard, and why.

    Args:
        cells: of every class.
        speakers: the detectors, by their place.
        p_of: the p-value of a cell.
        rate: of false alarms.
        name: of the origin that a cell is about.
    """
    left, told = _without_instruments(cells, speakers, p_of, name)
    certain = [[cell for cell in own if speakers[cell.detector].one and p_of(cell) <= rate] for own in left]
    loudest = max((cell.statistic for own in certain for cell in own), default=0.0)
    count = [
        [cell for cell in own if sure or speakers[cell.detector].one or cell.statistic >= loudest]
        for own, sure in zip(left, certain, strict=True)
    ]
    spoiled = [cell for own, rest in zip(left, count, strict=True) for cell in own if cell not in rest]
    return count, told | {speakers[cell.detector].name: SPOILED for cell in spoiled if p_of(cell) <= rate}


def _without_instruments(
    cells: Cells, speakers: Sequence[Speaker], p_of: Callable[[Cell], float], name: Callable[[Cell], str]
) -> tuple[list[list[Cell]], dict[str, str]]:
    """Without what speaks of one origin in several classes, or in all there are, if only as likely as not."""
    spoken = Counter(
        (cell.detector, name(cell))
        for own in cells
        for cell in own
        if speakers[cell.detector].instrument and p_of(cell) <= LIKELY
    )
    measured = sum(map(bool, cells))
    aside = {about for about, count in spoken.items() if in_several(count, measured) or 2 <= measured == count}
    mixed = {detector for detector, _ in aside if speakers[detector].compares}
    left = [
        [cell for cell in own if cell.detector not in mixed and (cell.detector, name(cell)) not in aside]
        for own in cells
    ]
    origins = defaultdict(list)
    for detector, origin in sorted(aside):
        origins[speakers[detector].name].append(origin)
    return left, {detector: f"{INSTRUMENT} {', '.join(found)}" for detector, found in origins.items()}
