"""Trigger inversion: is there a small trigger that leads every record to one class, though nobody named it?

For every class a mask and a pattern are sought, by gradient, that make the model answer that class whatever they are
laid on, the mask as small as that allows. Then the mask is cut to the ``area`` places where it is heaviest, and the
pattern there is sought again. The class whose trigger does best is chosen on one half of the records and measured on
the other, so that its success is that of a trigger which was fixed before. A clean model has small triggers too, of
less success: what is normal has to be known from models like this one before a bar is set.

Reference: Wang et al. Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks. IEEE S&P 2019;
    its anomaly index compares the sizes of the masks, which needs many classes; here success at one size is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from markupsafe import Markup
from torch import nn

from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion
from assay.evaluate.aspects.scene import Found, Scene
from assay.evaluate.inversion import Inverted, invert
from assay.report import html

NAME = "inverted_trigger_success"

__all__ = ["TriggerInversion"]


@dataclass(frozen=True, kw_only=True)
class TriggerInversion:
    """A trigger sought for every class, though nobody named one: ``inverted_trigger_success``.

    Fields:
        steps: gradient steps for the mask, and again for the pattern, a class.
        area: of all places of an input (pixels, columns), how many the trigger may cover.
    """

    steps: int = 200
    area: float = 0.05

    def __post_init__(self) -> None:
        if not (self.steps >= 1 and 0 < self.area <= 1):
            raise UnfitInput(
                "aspects.trigger_inversion", f"steps {self.steps}, area {self.area}", "steps, 0 < area <= 1"
            )

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        estimate, best = self.best(scene.model, scene.x, scene.y, scene.spec.bounds, scene.confidence)
        label = scene.spec.classes[best.target]
        return Found({NAME: estimate}, _section(estimate, label), facts={"inverted_trigger_target": best.target})

    def best(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, bounds: tuple[float, float], confidence: float = 0.95
    ) -> tuple[Estimate, Inverted]:
        """Success of the best small trigger on records that it was not sought on, and the trigger.

        Args:
            model: in eval mode, parameters frozen; not modified.
            x: (N, ...) inside the bounds; the even rows are sought on, the odd ones measured on.
            y: (N,) the true classes.
            bounds: of the inputs.
            confidence: of the interval.

        Raises:
            UnfitInput: fewer than two records, or one class.
        """
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        if len(x) < 2 or classes < 2:
            raise UnfitInput("trigger inversion", f"{len(x)} records, {classes} classes", "two of each")
        seek, seen = (x[::2], y[::2]), (x[1::2], y[1::2])
        found = []
        for target in range(classes):
            others = seek[0][seek[1] != target]
            if len(others):
                made = invert(model, others, target, bounds, steps=self.steps, area=self.area)
                found.append((made.hits(model, others) / len(others), -target, made))
        best = max(found, key=lambda one: one[:2])[2]
        fresh = seen[0][seen[1] != best.target]
        return proportion(best.hits(model, fresh), len(fresh), confidence), best


def _section(estimate: Estimate, label: str) -> Markup:
    table = html.table(["estimate", "value", "records", "class"], [(NAME, estimate, estimate.n, label)])
    lead = "Clean models have small triggers too: what is normal is known from models like this one."
    return html.section("Best small trigger of any class", table, lead=lead)
