"""The attacks of an evaluation, on the model and on the champion beside it: on all blocks, or on those of one shard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from assay import lineage
from assay.evaluate.champion import champion_folder, find_champion
from assay.evaluate.holdout import Holdout, require_fit
from assay.evaluate.measure import measure
from assay.evaluate.outcomes import Outcomes
from assay.evaluate.prepare import Prepared
from assay.evaluate.sequential import measure_until
from assay.models.folder import LoadedModel, load_model

__all__ = ["Measured", "champion_of", "measure_all"]


@dataclass(frozen=True)
class Measured:
    """What the attacks did.

    Fields:
        outcomes: of the model, on the first records or on all.
        champion: digest of the model beside it, or empty.
        champion_outcomes: of that model, on the same records.
    """

    outcomes: Outcomes
    champion: str = ""
    champion_outcomes: Outcomes | None = None

    @property
    def truncated(self) -> bool:
        """Time ran out, for the model or its champion."""
        return any(each.tallies["truncated"] for each in (self.outcomes, self.champion_outcomes) if each is not None)


def measure_all(prepared: Prepared, record: lineage.StepRecord, blocks: Iterable[int] | None = None) -> Measured:
    """Attack the model, and the champion where there is one, on some blocks; by default on all, or until settled.

    Raises:
        Refused: a champion whose promotion does not verify.
        UnfitInput: a champion that the records do not fit.
    """
    config, plan, workers = prepared.config, prepared.plan, prepared.workers
    x, y = prepared.arrays()
    champion = find_champion(record.workspace, prepared.target, prepared.candidate.digest) if prepared.target else ""
    module = prepared.candidate.module.to(prepared.device)
    if config.decide and not champion:
        return Measured(measure_until(module, x, y, plan, config.decide, config.confidence, workers=workers))
    chosen = None if blocks is None else list(blocks)
    outcomes = measure(module, x, y, plan, blocks=chosen, workers=workers)
    if not champion:
        return Measured(outcomes)
    holder = champion_of(champion, prepared.data, record).module.to(prepared.device)
    held = measure(holder, x, y, plan, blocks=chosen, checks=False, workers=workers)
    return Measured(outcomes, champion, held)


def champion_of(champion: str, data: Holdout, record: lineage.StepRecord) -> LoadedModel:
    """The model that was promoted last, from the ledger, noted as read.

    Raises:
        Refused: the ledger does not hold its files, or holds others.
        UnfitInput: the records do not fit it.
    """
    with champion_folder(record.ledger, champion) as folder:
        holder = load_model(folder)
    require_fit(data, holder.spec, "champion")
    record.reads("model", holder.digest, "champion")
    return holder
