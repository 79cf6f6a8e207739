"""Whose word counts: instruments of honest sources, what was compared with them, proxies that learned the poison."""

from __future__ import annotations

import pytest

from assay.filters._evidence import Cell
from assay.filters._hearing import Speaker, heard, in_several

INSTRUMENT = Speaker("instrument", one=True, instrument=True, compares=False)
COMPARES = Speaker("compares", one=True, instrument=True, compares=True)
ACTIVATIONS = Speaker("activations", one=True, instrument=False, compares=False)
HELD_OUT = Speaker("held_out", one=False, instrument=False, compares=False)

Said = dict[tuple[int, int], float]


def hear(speakers: list[Speaker], classes: list[Said], rate: float = 0.05) -> tuple[list[Said], dict[str, str]]:
    """The p-values, by detector and origin, that are left of every class."""
    cells = [[Cell(detector, (origin,), 1 / p) for (detector, origin), p in said.items()] for said in classes]
    left, told = heard(cells, speakers, lambda cell: 1 / cell.statistic, rate, lambda cell: f"s{cell.codes[0]}")
    return [{(cell.detector, cell.codes[0]): round(1 / cell.statistic, 9) for cell in own} for own in left], told


def shifted(guilty: int, of: int) -> list[Said]:
    """Origin 0 differs in the first so many classes, origin 1 nowhere."""
    return [{(0, 0): 0.001 if k < guilty else 0.9, (0, 1): 0.8} for k in range(of)]


@pytest.mark.parametrize(
    ("guilty", "of", "aside"), [(1, 10, False), (2, 10, False), (3, 10, True), (3, 20, False), (5, 20, True)]
)
def test_an_instrument_shows_in_three_classes_and_more_than_a_fifth(guilty: int, of: int, aside: bool) -> None:
    left, told = hear([INSTRUMENT], shifted(guilty, of))
    assert all(((0, 0) in one) is not aside and (0, 1) in one for one in left)
    assert told == ({"instrument": "so in several classes: origin s0"} if aside else {})
    assert in_several(guilty, of) is aside


@pytest.mark.parametrize(("of", "aside"), [(1, False), (2, True), (3, True)])
def test_an_instrument_shows_in_all_classes_where_there_are_few_but_not_in_an_only_one(of: int, aside: bool) -> None:
    left, _ = hear([INSTRUMENT], shifted(of, of))
    assert all(((0, 0) in one) is not aside for one in left)


def test_what_was_compared_with_an_instrument_is_set_aside_too() -> None:
    assert hear([COMPARES], shifted(4, 10))[0] == [{}] * 10
    assert hear([COMPARES], shifted(2, 10))[0] == shifted(2, 10)


def test_half_a_chance_is_enough_for_an_instrument_and_no_more() -> None:
    likely = [{(0, 0): 0.5} for _ in range(4)]
    assert hear([INSTRUMENT], likely)[0] == [{}] * 4
    assert hear([INSTRUMENT], [{(0, 0): 0.51}, *likely[1:3], {(0, 0): 0.9}])[0][1] == {(0, 0): 0.5}


def test_held_out_proxies_are_not_heard_alone_where_another_class_is_flagged() -> None:
    classes: list[Said] = [
        {(0, 0): 0.001, (1, 0): 0.001},
        {(0, 0): 0.9, (1, 0): 0.002},
        {(0, 0): 0.9, (1, 0): 0.4},
    ]
    left, told = hear([ACTIVATIONS, HELD_OUT], classes)
    assert left == [classes[0], {(0, 0): 0.9}, {(0, 0): 0.9}]
    assert list(told) == ["held_out"]
    assert "filter once more" in told["held_out"]


def test_held_out_proxies_are_heard_where_they_are_the_loudest() -> None:
    """A few wrong labels move the mean of some class too, and show in all to a proxy that learned from right ones."""
    classes: list[Said] = [{(0, 0): 0.01, (1, 0): 0.001}, {(0, 0): 0.5, (1, 0): 0.002}, {(0, 0): 0.5, (1, 0): 0.02}]
    assert hear([ACTIVATIONS, HELD_OUT], classes)[0] == [classes[0], classes[1], {(0, 0): 0.5}]


def test_held_out_proxies_are_heard_where_no_other_detector_speaks() -> None:
    """Wrong labels show to them alone; above the rate another detector says nothing."""
    classes: list[Said] = [{(0, 0): 0.06, (1, 0): 0.001}, {(0, 0): 0.9, (1, 0): 0.002}]
    assert hear([ACTIVATIONS, HELD_OUT], classes) == (classes, {})


def test_an_instrument_that_was_set_aside_silences_no_proxy() -> None:
    classes: list[Said] = [{(0, 0): 0.001, (1, 0): 0.001} for _ in range(4)]
    assert hear([INSTRUMENT, HELD_OUT], classes)[0] == [{(1, 0): 0.001}] * 4
