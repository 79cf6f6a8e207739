"""Broken attacks: each of them must fail a check that the right one passes.

An attack that is wrong in one small way still lowers accuracy, and so passes the tests that are usual in the field.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from attack_cases import (
    FROZEN_ROBUST,
    LOST,
    frozen_robust,
    leaves_the_ball,
    linear_shortfall,
    linear_shortfall_in_a_box,
    plain,
    shortfall_of_a_top_inside,
)

from assay.attacks.apgd import APGD
from assay.attacks.fab import FAB, to_plane
from assay.attacks.geometry import ahead
from assay.attacks.objective import margin
from assay.attacks.pgd import PGD
from assay.attacks.square import Square

pytestmark = pytest.mark.usefixtures("one_thread")


MUTANTS = {
    "sign flipped": plain(sign=-1.0),
    "one tiny step": plain(steps=1),
    "no projection": plain(projects=False),
    "path of 1.33 epsilon": plain(reach=1.33),
    "gradient detached": plain(detached=True),
    "clamp inside the graph": plain(clamps_in_graph=True),
    "returns its input": lambda model, x, y, threat, *, generator: x,
}


def passes_all(attack) -> bool:
    return (
        max(linear_shortfall(attack, "linf") / LOST["linf"], linear_shortfall(attack, "l2") / LOST["l2"]) <= 1
        and linear_shortfall_in_a_box(attack) <= 1e-9
        and max(leaves_the_ball(attack, norm) for norm in LOST) <= 1e-12
        and FROZEN_ROBUST <= frozen_robust(attack) <= FROZEN_ROBUST + 2
    )


def test_an_attack_with_nothing_broken_passes_every_check():
    assert passes_all(PGD())
    assert passes_all(plain())


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_attack_fails_a_check(name):
    assert not passes_all(MUTANTS[name])


def test_a_clamp_inside_the_graph_is_caught_by_the_frozen_network():
    assert frozen_robust(plain(clamps_in_graph=True)) > FROZEN_ROBUST + 2


def no_halving(at, window):
    return dataclasses.replace(at, rises=torch.zeros_like(at.rises))


APGD_MUTANTS = {
    "sign flipped": ("ahead", lambda threat, here, gradient, length: ahead(threat, here, -gradient, length)),
    "one tiny step": ("_step", lambda best, at, *rest: at),
    "no projection": ("project", lambda threat, x, x_adv: x_adv.clamp(*threat.bounds)),
    "never halves its step": ("_check", no_halving),
    "gradient of noise": (
        "ahead",
        lambda threat, here, gradient, length: ahead(threat, here, torch.randn_like(gradient), length),
    ),
}


@pytest.mark.parametrize("name", list(APGD_MUTANTS))
def test_a_broken_apgd_fails_a_check(name, monkeypatch):
    part, broken = APGD_MUTANTS[name]
    monkeypatch.setattr(f"assay.attacks.apgd.{part}", broken)
    attack = APGD(steps=40)
    fails = (
        shortfall_of_a_top_inside(attack) > 0.01
        or linear_shortfall(attack, "linf") > LOST["linf"]
        or linear_shortfall(attack, "l2") > 1e-6
        or max(leaves_the_ball(attack, norm) for norm in LOST) > 1e-12
        or not FROZEN_ROBUST <= frozen_robust(APGD(steps=40, drop=True)) <= FROZEN_ROBUST + 2
    )
    assert fails


FAB_MUTANTS = {
    "sign flipped": ("to_plane", lambda norm, x, weight, gap, bounds: -to_plane(norm, x, weight, gap, bounds)),
    "half the way": ("to_plane", lambda norm, x, weight, gap, bounds: to_plane(norm, x, weight, gap, bounds) / 2),
    "gradient of noise": (
        "to_plane",
        lambda norm, x, weight, gap, bounds: to_plane(norm, x, torch.randn_like(weight), gap, bounds),
    ),
}


@pytest.mark.parametrize("name", list(FAB_MUTANTS))
def test_a_broken_fab_fails_a_check(name, monkeypatch):
    part, broken = FAB_MUTANTS[name]
    monkeypatch.setattr(f"assay.attacks.fab.{part}", broken)
    assert frozen_robust(FAB(steps=10, targets=3, drop=True)) > FROZEN_ROBUST + 2


SQUARE_MUTANTS = {
    "keeps the worse": ("margin", lambda logits, y: -margin(logits, y)),
    "never shrinks": ("SHRINKS", ()),
    "proposes nothing": ("_linf", lambda threat, x, here, share, generator: here),
}


@pytest.mark.parametrize("name", list(SQUARE_MUTANTS))
def test_a_broken_square_fails_a_check(name, monkeypatch):
    part, broken = SQUARE_MUTANTS[name]
    monkeypatch.setattr(f"assay.attacks.square.{part}", broken)
    assert frozen_robust(Square(queries=1000, drop=True)) > FROZEN_ROBUST + 3
