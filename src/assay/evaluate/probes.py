"""Known backdoor triggers: stamp the hold-out records and count what the model then calls the target."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from torch import nn

from assay.data.records import require_name
from assay.errors import UnfitInput, UnknownName
from assay.estimate import Estimate, curtailed
from assay.poison import triggers as poison
from assay.poison.triggers import Images

__all__ = ["Square", "Trigger", "backdoor_success", "read_triggers"]


@dataclass(frozen=True, kw_only=True)
class Square:
    """A square of one value at a place: BadNets.

    Fields:
        row, column: its upper left pixel.
        size: side in pixels.
        value: the pixels' value, in the units of the images.

    Reference: Gu, Dolan-Gavitt and Garg. BadNets. 2017. arXiv:1708.06733.
    """

    row: int
    column: int
    size: int = 2
    value: float = 1.0

    def __call__(self, images: Images) -> Images:
        """Stamped copies of images (N, C, H, W)."""
        extent = images.shape[2:] if images.ndim == 4 else (0, 0)
        ends = (self.row + self.size, self.column + self.size)
        if not (min(self.row, self.column) >= 0 and self.size >= 1 and ends[0] <= extent[0] and ends[1] <= extent[1]):
            raise UnfitInput("trigger", f"{self} on inputs of shape {images.shape[1:]}", "a square inside the images")
        stamped = images.copy()
        stamped[:, :, self.row : ends[0], self.column : ends[1]] = self.value
        return stamped


KINDS: dict[str, type[Any]] = {
    "patch": Square,
    "corner": poison.Patch,
    "blended": poison.Blended,
    "stripe": poison.Stripe,
    "sinusoidal": poison.Sinusoidal,
}


@dataclass(frozen=True)
class Trigger:
    """A trigger and the class it is said to lead to.

    Fields:
        name: in the estimate.
        stamp: what the backdoor looks for.
        target: the class.
    """

    name: str
    stamp: poison.Trigger
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
        UnknownName: no such kind or field.
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
    if kind not in KINDS:
        raise UnknownName("trigger kind", str(kind), KINDS)
    if not isinstance(target, int) or isinstance(target, bool):
        raise UnfitInput("trigger: target", repr(target), "the number of a class")
    known = [field.name for field in dataclasses.fields(KINDS[kind])]
    for key in settings:
        if key not in known:
            raise UnknownName(f"trigger {kind} setting", key, [*known, "kind", "name", "target"])
    try:
        stamp = pydantic.TypeAdapter(KINDS[kind]).validate_python(settings)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UnfitInput(f"trigger {kind}: {place}", repr(first.get("input")), first["msg"]) from error
    return Trigger(require_name("trigger", str(name)), stamp, target)
