"""The same accuracies on other records: another hospital, another season, another supplier."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from assay.estimate import proportion
from assay.evaluate import summary
from assay.evaluate.aspects.scene import Found, Scene
from assay.evaluate.measure import measure
from assay.report import html, plots

__all__ = ["Sets"]


@dataclass(frozen=True, kw_only=True)
class Sets:
    """Clean and robust accuracy on named evaluation sets, in the same evidence as those on the hold-out.

    ``clean_accuracy[set=<name>]`` and ``robust_accuracy[set=<name>]/<threat>``, against the whole ladder; the rule
    `at_least` asks for one by its name.

    Fields:
        names: of the evaluation sets; empty for all.
    """

    names: tuple[str, ...] = ()

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        found = {}
        for name in self.names or tuple(scene.sets):
            records = scene.labelled(name)
            x, y = scene.tensor(records.x), torch.from_numpy(records.y).to(scene.y.device)
            plan = replace(scene.plan, triggers=(), limit_s=0.0)
            outcomes = measure(scene.model, x, y, plan, checks=False)
            for key, each in summary.estimates(outcomes, plan, scene.confidence).items():
                start, slash, rest = key.partition("/")
                if rest.count("/") == 0:  # not what each rung leaves
                    found[f"{start}[set={name}]{slash}{rest}"] = proportion(**each.counts, confidence=scene.confidence)
        rows = [plots.Interval.of(name, each) for name, each in found.items()]
        drawn = plots.intervals(rows, title="Accuracy on other records")
        table = html.table(["estimate", "value", "records"], [(name, each, each.n) for name, each in found.items()])
        return Found(found, html.section("Other records", html.figure(drawn), table))
