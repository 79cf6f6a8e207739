"""What an aspect looks at, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from markupsafe import Markup
from torch import nn

from assay.errors import UnfitInput, UnknownName
from assay.estimate import Estimate
from assay.evaluate.blocks import BLOCK_RECORDS, block_count, block_rows
from assay.evaluate.fast import agreeing, fast, pays
from assay.evaluate.holdout import Holdout
from assay.evaluate.ladder import within
from assay.evaluate.measure import Plan
from assay.evaluate.outcomes import Outcomes
from assay.evaluate.strength import differentiable
from assay.models.fit import generator_for
from assay.models.spec import ModelSpec
from assay.threat import ThreatModel

__all__ = ["Aspect", "Found", "Scene", "rounded"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """What one aspect says.

    Fields:
        estimates: by name; one made under a threat model ends in ``/<threat key>``.
        section: of the page.
        checks: verdicts on the measurement itself, ``holds``, ``misses`` or ``not_measured``.
        facts: what to record beside the settings: plain data for canonical JSON.
    """

    estimates: dict[str, Estimate]
    section: Markup
    checks: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """A model and records it did not learn from.

    Fields:
        model: raw inputs (N, ...) to logits (N, K); float32, in eval mode, parameters frozen.
        spec: of the model.
        data: the records; x and y are its arrays on the model's device.
        plan: threats, attacks and seed.
        outcomes: what the attacks did to the first records, or to all.
        sets: other records by name.
        confidence: of every interval.
    """

    model: nn.Module
    spec: ModelSpec
    data: Holdout
    x: torch.Tensor
    y: torch.Tensor
    plan: Plan
    outcomes: Outcomes
    sets: Mapping[str, Holdout]
    confidence: float
    _attacked: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)

    def set(self, name: str) -> Holdout:
        """The records of a name in ``evaluate.sets``.

        Raises:
            UnknownName: there are none.
        """
        if name not in self.sets:
            raise UnknownName("evaluation set", name, self.sets)
        return self.sets[name]

    def apart(self, name: str) -> Holdout:
        """A set to fit something on: none of its records is measured.

        Raises:
            UnfitInput: a record of the hold-out is in it, or it has other classes than the model.
        """
        found = self.set(name)
        shared = sorted(set(found.record_ids).intersection(self.data.dataset.record_ids))
        if shared:
            raise UnfitInput(f"set {name}", f"the record {shared[0]} of the hold-out", "records that are not measured")
        return self.labelled(name)

    def labelled(self, name: str) -> Holdout:
        """A set whose labels are the model's classes.

        Raises:
            UnfitInput: other classes.
        """
        found = self.set(name)
        classes = found.dataset.manifest.content.classes
        if classes != self.spec.classes:
            raise UnfitInput(
                f"set {name}: classes", str(classes)[:200], f"those of the model, {self.spec.classes}"[:200]
            )
        return found

    def logits(self, x: torch.Tensor) -> Floats:
        """(N, K) in float64, block by block; one that is not finite stays so."""
        with torch.no_grad():
            parts = [self.model(part) for part in torch.split(x, BLOCK_RECORDS)]
        found: Floats = torch.cat(parts).double().cpu().numpy()
        return found

    def tensor(self, x: npt.NDArray[np.float32]) -> torch.Tensor:
        """Records on the model's device."""
        return torch.from_numpy(x).to(self.x.device)

    def blocks(self, purpose: str) -> Iterator[tuple[int, slice, torch.Generator]]:
        """Number, rows and generator of every block of 256 records."""
        for index in range(block_count(len(self.x))):
            yield index, block_rows(index, len(self.x)), generator_for(self.plan.seed, purpose, index)

    def attacked(self, threat: ThreatModel) -> torch.Tensor:
        """Every record moved as far into error as one run of the strongest attack moves it; made once.

        Other than on the ladder a record goes on after it is broken, and one that stands is moved too.
        """
        if threat.key not in self._attacked:
            parts = [
                self.aimed(threat, self.x[rows], self.y[rows], generator)
                for _, rows, generator in self.blocks(f"aspects/{threat.key}")
            ]
            self._attacked[threat.key] = torch.cat(parts)
        return self._attacked[threat.key]

    def aimed(self, threat: ThreatModel, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One run of the strongest attack on some records; what leaves ball or box is the record itself."""
        attack: Any = self.plan.strongest.attack
        attack = replace(attack, drop=False) if hasattr(attack, "drop") else attack
        searched = agreeing(differentiable(fast(self.model)), x) if pays(self.model) else differentiable(self.model)
        found = attack(searched, x, y, threat, generator=generator).detach()
        inside = within(threat, x, found).reshape(-1, *(1 for _ in x.shape[1:]))
        return torch.where(inside, found, x)


def rounded(radius: float) -> float:
    """A radius that was computed, as people write it: 3 * 0.0125 is 0.0375, and so is the name of its estimate."""
    return float(f"{radius:.12g}")


class Aspect(Protocol):
    """A frozen dataclass whose fields are its settings."""

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        ...
