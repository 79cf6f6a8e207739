"""What would have been found: known backdoors planted in copies of the data, and the filter run on each.

"No poison found" says little without it. A trial draws a source, a class and a trigger of its own, plants the share of
records in that source, runs the whole filter, proxies included, and counts as found where at least nine in ten of the
planted records would go. Trials are independent given the data, so that the share found has an exact interval.
It speaks of these triggers, this share and these data, of an attacker in one source, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.config.filters import FilterConfig
from assay.data.dataset import Dataset, features, labels
from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion
from assay.filters import Floats, Labels
from assay.filters.examine import Examined, look
from assay.filters.features import Inputs
from assay.poison.draw import Kind, draw, fitting
from assay.poison.plant import Planted, plant
from assay.progress import track

NAME, FOUND = "filter_power", 0.9

__all__ = ["NAME", "Power", "self_test"]


@dataclass(frozen=True)
class Power:
    """How much of what was planted was found.

    Fields:
        planted: records in each trial.
        removed: share of them that would go, of every trial (trials,), by kind of trigger.
    """

    planted: int
    removed: Mapping[str, Floats]

    def estimates(self) -> dict[str, Estimate]:
        """``filter_power/<kind>``: the chance that a backdoor is found; ``filter_power``: over all kinds alike.

        Over all kinds the interval is that of one share: with kinds of different chances it is wider than it need be,
        since their sum varies less (Hoeffding 1956).
        """
        found = {kind: int((shares >= FOUND).sum()) for kind, shares in self.removed.items()}
        each = {f"{NAME}/{kind}": proportion(count, len(self.removed[kind])) for kind, count in found.items()}
        return each | {NAME: proportion(sum(found.values()), sum(map(len, self.removed.values())))}

    def to_json(self) -> dict[str, Any]:
        """Plain data: what was planted, the share removed of every trial, the estimates."""
        return {
            "planted": self.planted,
            "found_at": FOUND,
            "removed": {kind: shares.tolist() for kind, shares in self.removed.items()},
            "estimates": {name: estimate.to_json() for name, estimate in self.estimates().items()},
        }


def self_test(given: Dataset, examined: Examined, config: FilterConfig, trusted: Dataset | None) -> Power | None:
    """Plant and look, in the records that stay, all of them in memory; None where no trial is asked for.

    Args:
        given: the records under test.
        examined: what the filter found in them.
        config: of the step.
        trusted: records known to be clean, or None.

    Raises:
        UnfitInput: no source holds enough records of other classes, or a trigger that does not fit the data.
    """
    asked, stay = config.self_test, ~examined.decision.removed
    if not asked.trials:
        return None
    x, y = examined.x[stay], labels(given)[stay]
    origins = np.asarray(examined.origins, dtype=str)[stay]
    reference = (features(trusted), labels(trusted)) if trusted is not None and len(trusted) else None
    count, classes = max(1, round(asked.share * len(y))), len(given.manifest.content.classes)
    kinds: Sequence[Kind] = asked.triggers or fitting(x)
    removed: dict[Kind, Floats] = {kind: np.zeros(asked.trials) for kind in dict.fromkeys(kinds)}
    every = [(kind, trial) for kind in removed for trial in range(asked.trials)]
    for kind, trial in track(every, "self-test", len(every)):
        generator = np.random.default_rng([config.seed, trial, *kind.encode()])
        made = _planted(kind, x, y, origins, count, generator)
        copy = made.images, made.labels, origins.tolist()
        judged = look(*copy, classes, reference, config, examined.built, examined.encoder)[1]
        removed[kind][trial] = judged.decision.removed[made.planted].mean()
    return Power(count, dict[str, Floats](removed.items()))


def _planted(
    kind: Kind, x: Inputs, y: Labels, origins: np.ndarray, count: int, generator: np.random.Generator
) -> Planted:
    """One poisoned copy: a class at random, and a source at random among those that hold enough of other classes."""
    target = int(generator.choice(np.unique(y)))
    able = [name for name in np.unique(origins) if ((origins == name) & (y != target)).sum() >= count]
    if not able:
        raise UnfitInput(
            "filter.self_test", f"{count} records to plant", "a source with as many of other classes", "Lower `share`."
        )
    among = origins == generator.choice(np.array(able))
    trigger = draw(kind, x, generator)
    return plant(x, y, trigger, target=target, count=count, generator=generator, among=among)
