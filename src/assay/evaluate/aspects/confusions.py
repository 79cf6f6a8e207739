"""Is one class ever taken for another that it must not be taken for?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from assay.errors import UnfitInput, UnknownName
from assay.estimate import Estimate, proportion
from assay.evaluate.aspects.scene import Found, Scene
from assay.evaluate.blocks import BLOCK_RECORDS
from assay.evaluate.holdout import Holdout
from assay.evidence import robust
from assay.models.fit import generator_for
from assay.report import html
from assay.threat import ThreatModel

__all__ = ["Confusions"]


@dataclass(frozen=True, kw_only=True)
class Confusions:
    """The share of one class that is taken for another, on the hold-out and on named sets, clean and under attack.

    ``confused[<label>-><predicted>]``, with ``/<set>`` behind it for a set of canaries: of the records of the one class
    those that are predicted as the other, with the exact interval. Under a threat, ``/<threat key>`` of a targeted
    goal behind that: those which the strongest attack, aimed at the other class, brings there from any of its restarts,
    or which are there without it. An answer that is not finite counts as confused. The rule `never_confuse` reads both.

    Fields:
        pairs: names of the true class and of the one it must not be taken for.
        sets: names of evaluation sets with the classes of the model.
        under_attack: measure under every threat too.
    """

    pairs: tuple[tuple[str, str], ...]
    sets: tuple[str, ...] = ()
    under_attack: bool = True

    def __post_init__(self) -> None:
        same = next((pair for pair in self.pairs if pair[0] == pair[1]), None)
        if not self.pairs or same:
            raise UnfitInput("aspects.confusions: pairs", str(same or "none"), "pairs of two different classes")

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        records = {"": scene.data} | {f"/{name}": scene.labelled(name) for name in self.sets}
        found: dict[str, Estimate] = {}
        for label, predicted in self.pairs:
            pair = _number(scene, label), _number(scene, predicted)
            for ending, each in records.items():
                name = f"confused[{label}->{predicted}]{ending}"
                found |= self._measured(scene, each, pair, name)
        rows = [(name, each, each.counts["successes"], each.n) for name, each in found.items()]
        table = html.table(["confusion", "share", "confused", "records"], rows)
        return Found(found, html.section("Confusions", table, lead="What must not be taken for something else."))

    def _measured(self, scene: Scene, records: Holdout, pair: tuple[int, int], name: str) -> dict[str, Estimate]:
        x = scene.tensor(records.x[records.y == pair[0]])
        found = {name: proportion(int(_taken(scene.model, x, pair[1]).sum()), len(x), scene.confidence)}
        for threat in scene.plan.threats if self.under_attack else ():
            aimed = replace(threat, goal="targeted")
            count = sum(_brought(scene, part, pair[1], threat, f"{name}/{at}") for at, part in _blocks(x))
            found[robust(name, aimed)] = proportion(count, len(x), scene.confidence)
        return found


class _Towards(nn.Module):
    """Logits (N, 2): the greatest of all other classes, and that of the class aimed at."""

    def __init__(self, model: nn.Module, target: int) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x)
        aim = torch.full((len(logits), 1), self.target, device=logits.device)
        return torch.stack([logits.scatter(1, aim, -torch.inf).amax(1), logits[:, self.target]], 1)


def _brought(scene: Scene, x: torch.Tensor, target: int, threat: ThreatModel, purpose: str) -> int:
    """How many of some records are taken for the target, as they are or from any restart."""
    towards = replace(scene, model=_Towards(scene.model, target).eval())
    there = _taken(scene.model, x, target)
    for restart in range(scene.plan.strongest.restarts):
        generator = generator_for(scene.plan.seed, "confusions", purpose, threat.key, restart)
        x_adv = towards.aimed(threat, x, torch.zeros(len(x), dtype=torch.int64, device=x.device), generator)
        there |= _taken(scene.model, x_adv, target)
    return int(there.sum())


def _taken(model: nn.Module, x: torch.Tensor, target: int) -> torch.Tensor:
    """(N,) bool: predicted as the target, or not finite."""
    with torch.no_grad():
        parts = [model(part) for part in torch.split(x, BLOCK_RECORDS)] if len(x) else [model(x)]
    logits = torch.cat(parts)
    taken: torch.Tensor = (logits.argmax(1) == target) | ~logits.isfinite().all(1)
    return taken


def _blocks(x: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    return list(enumerate(torch.split(x, BLOCK_RECORDS))) if len(x) else []


def _number(scene: Scene, name: str) -> int:
    if name not in scene.spec.classes:
        raise UnknownName("class", name, scene.spec.classes)
    return scene.spec.classes.index(name)
