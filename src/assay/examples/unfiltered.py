"""What would have happened without the filter: one model trained on the sanitized records, and probed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch

from assay.config import Config
from assay.estimate import Estimate
from assay.evaluate.holdout import read_holdout
from assay.evaluate.probes import backdoor_success, read_triggers
from assay.models.folder import load_model
from assay.train.step import train

__all__ = ["backdoor_success_unfiltered"]


def backdoor_success_unfiltered(
    config: Config, *, sanitized: Path, calibration: Path, holdout: Path
) -> dict[str, Estimate]:
    """Train on the sanitized records as the run trained on the filtered ones, and probe with the planted trigger.

    The model enters the ledger, so that a trace of the poisoned source shows it, but no registry.

    Returns:
        ``{"backdoor_success_unfiltered": ...}``, or nothing when the configuration names no trigger.
    """
    triggers = read_triggers(config.evaluate.triggers)
    if not triggers:
        return {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        os.environ.pop("ASSAY_RUN_ID", None)  # this model is beside the run, not of it
        train(sanitized, config.train, model=folder, calibration=calibration)
        module = load_model(folder).module
    records = read_holdout(holdout, config.evaluate.limit, config.evaluate.seed)
    x, y = torch.from_numpy(records.x.copy()), torch.from_numpy(records.y.copy())
    tallies: dict[str, int] = {}
    for trigger in triggers:
        tallies |= trigger.tally(module, x, y)
    found = backdoor_success(tallies, triggers, config.evaluate.confidence)
    return {name.replace("backdoor_success", "backdoor_success_unfiltered", 1): value for name, value in found.items()}
