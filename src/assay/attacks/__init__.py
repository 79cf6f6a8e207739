"""Attacks: ``attack(model, x, y, threat, *, generator) -> x_adv``, one file each. Needs torch."""

HELPERS = ("best", "feasible", "geometry", "l0", "l1", "objective", "starts", "weights")
