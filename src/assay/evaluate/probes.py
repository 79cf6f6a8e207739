"""Known backdoor triggers: stamp the hold-out records and count what the model then calls the target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from assay import catalog
from assay.data.records import require_name
from assay.errors import UnfitInput
from assay.estimate import Estimate, curtailed
from assay.poison.triggers import Trigger as Stamp

__all__ = ["Trigger", "backdoor_success", "read_triggers"]


@dataclass(frozen=True)
class Trigger:
    """A trigger and the class it is said to lead to.

    Fields:
        name: in the estimate.
        stamp: what the backdoor looks for.
        target: the class.
    """

    name: str
    stamp: Stamp
    target: int

    def tally(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> dict[str, int]:
        """Of one block: records of other classes, and how many of them, stamped, are called the target.

        Logits that are not finite count as the target: they are no proof of innocence.
        """
        others = x[y != self.target]
        stamped = torch.from_numpy(self.stamp(others.cpu().numpy())).to(x)
        with torch.no_grad():
            logits = model(stamped)
        hits = (logits.argmax(1) == self.target) | ~logits.isfinite().all(1)
        return {f"probe/{self.name}/trials": len(others), f"probe/{self.name}/hits": int(hits.sum())}

    def require_fit(self, shape: Sequence[int], bounds: tuple[float, float], classes: int) -> None:
        """Check a trigger against a model's input.

        Raises:
            UnfitInput: a target that is no class, a trigger that does not fit the input, or one that leaves the box.
        """
        if not 0 <= self.target < classes:
            raise UnfitInput(f"trigger {self.name}: target", str(self.target), f"a class in [0, {classes})")
        stamped = self.stamp(np.full((1, *shape), sum(bounds) / 2, dtype=np.float32))
        if not (stamped.min() >= bounds[0] and stamped.max() <= bounds[1]):
            raise UnfitInput(f"trigger {self.name}", "values outside the box", f"values in {list(bounds)}")


def read_triggers(given: Sequence[Mapping[str, Any]]) -> tuple[Trigger, ...]:
    """Triggers from their configuration: name, kind, target, and the fields of the kind.

    Raises:
        UnknownName: no such member of ``poison.triggers``, or no such field.
        UnfitInput: a missing or unfit field, or a name given twice.
    """
    made = tuple(_read(document) for document in given)
    twice = [name for name, count in Counter(trigger.name for trigger in made).items() if count > 1]
    if twice:
        raise UnfitInput("triggers", f"the name {twice[0]!r} twice", "each name once")
    return made


def backdoor_success(
    tallies: Mapping[str, int],
    triggers: Sequence[Trigger],
    confidence: float,
    labels: npt.NDArray[np.int64] | None = None,
) -> dict[str, Estimate]:
    """One estimate a trigger: `backdoor_success`, with the trigger's name behind it when there are several.

    Of an evaluation that stopped before the end, ``labels`` are those of all records.
    """
    found = {}
    for trigger in triggers:
        hits, trials = (tallies[f"probe/{trigger.name}/{part}"] for part in ("hits", "trials"))
        total = trials if labels is None else int((labels != trigger.target).sum())
        name = "backdoor_success" if len(triggers) == 1 else f"backdoor_success/{trigger.name}"
        found[name] = curtailed(hits, trials, total, confidence)
    return found


def _read(document: Mapping[str, Any]) -> Trigger:
    settings = dict(document)
    kind, name, target = settings.pop("kind", ""), settings.pop("name", ""), settings.pop("target", None)
    if not isinstance(target, int) or isinstance(target, bool):
        raise UnfitInput("trigger: target", repr(target), "the number of a class")
    stamp = catalog.build("poison.triggers", str(kind), settings)
    return Trigger(require_name("trigger", str(name)), stamp, target)
