"""Everything an evaluation knows before the first attack, checked: the model, the records, the plan, the aspects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from assay import lineage
from assay.config.evaluate import EvaluateConfig
from assay.config.root import Target
from assay.devices import device_of
from assay.errors import UnfitInput
from assay.evaluate.aspects.scene import Aspect
from assay.evaluate.holdout import Holdout, constraints_of, read_holdout, read_sets, require_fit
from assay.evaluate.look import aspects
from assay.evaluate.measure import Plan
from assay.evaluate.plan import make_plan
from assay.evaluate.sequential import LOOK_RECORDS, shuffled
from assay.models.folder import LoadedModel, load_model

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """What is measured.

    Fields:
        candidate: the model.
        data: the records, in the order in which they are attacked.
        plan: threats, attacks and seed.
        config: all that was asked for.
        target: whose champion is measured on the same records, or None.
        aspects: what is measured besides, by name.
        sets: other records by name, for the aspects.
    """

    candidate: LoadedModel
    data: Holdout
    plan: Plan
    config: EvaluateConfig
    target: Target | None
    aspects: Mapping[str, Aspect]
    sets: Mapping[str, Holdout]

    @property
    def device(self) -> torch.device:
        """Where models are asked."""
        return device_of(self.config.device, "evaluate.device")

    @property
    def workers(self) -> int:
        """Blocks attacked at the same time."""
        return self.config.threads if self.device.type == "cpu" else 1

    def arrays(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, ...) float32 records and (N,) int64 classes, on the device."""
        return torch.from_numpy(self.data.x).to(self.device), torch.from_numpy(self.data.y).to(self.device)


def prepare(
    model: Path, holdout: Path, config: EvaluateConfig, target: Target | None, record: lineage.StepRecord
) -> Prepared:
    """Read and check what an evaluation is made of, and note in the record that it was read.

    Raises:
        UnfitInput: a broken model or dataset, records that do not fit the model, an epsilon that does not fit the box,
            settings of a black box.
        UnknownName: no such attack, aspect, setting or evaluation set.
        Refused: a model that does not replay its golden outputs.
    """
    if config.black_box is not None:
        raise UnfitInput("evaluate.black_box", "settings of a black box", "none for a model folder")
    candidate = load_model(model)
    if candidate.spec.regression:
        raise UnfitInput(f"model {model}", "a model of quantities", "a model of classes", "Evaluate it on one machine.")
    if config.regression is not None:
        raise UnfitInput("evaluate.regression", "settings of a regression", "none for a model of classes")
    data = read_holdout(holdout, config.limit, config.seed)
    require_fit(data, candidate.spec)
    plan = make_plan(config, candidate.spec, constraints_of(config, data))
    built = aspects(config.aspects, config.sets)
    sets = read_sets(config.sets, candidate.spec)
    record.uses(data.dataset, "holdout")
    for name, other in sets.items():
        record.uses(other.dataset, f"set-{name}")
        lineage.put_dataset(record.ledger, other.dataset)  # so that an incident about its records can be told
    record.reads("model", candidate.digest)
    if config.decide:
        data, plan = shuffled(data, config.seed), replace(plan, block_records=LOOK_RECORDS)
    return Prepared(candidate, data, plan, config, target, built, sets)
