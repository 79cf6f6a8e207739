"""From the configuration to what is measured of a model of quantities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay import catalog, lineage
from assay.attacks.geometry import Attack
from assay.config.evaluate import EvaluateConfig
from assay.config.root import Target
from assay.errors import UnfitInput
from assay.evaluate.blocks import BLOCK_RECORDS
from assay.evaluate.holdout import Holdout, constraints_of, read_holdout, require_fit
from assay.evaluate.layers import Layer, layers_of
from assay.evaluate.plan import refuse_settings, threats_of
from assay.evaluate.worst_error import attacks_of, proof_of
from assay.models.folder import LoadedModel, load_model
from assay.threat import ThreatModel

ABOUT_CLASSES = ("triggers", "aspects", "sets", "decide", "limit_s", "budget", "black_box")

__all__ = ["RegressionPlan", "RegressionPrepared", "known_layers", "largest_error_of", "prepare_regression"]


@dataclass(frozen=True)
class RegressionPlan:
    """What to measure.

    Fields:
        threats: the first is the primary one.
        attacks: by name, as they climb a quantity.
        seed: of every attack.
        largest: the largest error that counts, in units of the label.
        block_records: size of a block.
    """

    threats: tuple[ThreatModel, ...]
    attacks: Mapping[str, Attack]
    seed: int
    largest: float
    block_records: int = BLOCK_RECORDS

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Every attack with all of its fields."""
        return {name: catalog.settings(attack) for name, attack in self.attacks.items()}


@dataclass(frozen=True)
class RegressionPrepared:
    """What is measured.

    Fields:
        candidate: the model.
        layers: of it; None where nothing can be proven of it.
        data: the records.
        plan: threats, attacks, seed.
        config: all that was asked for.
        target: whose champion is measured on the same records, and whom the attempt is charged to; or None.
    """

    candidate: LoadedModel
    layers: Sequence[Layer] | None
    data: Holdout
    plan: RegressionPlan
    config: EvaluateConfig
    target: Target | None


def prepare_regression(
    model: Path, holdout: Path, config: EvaluateConfig, target: Target | None, record: lineage.StepRecord
) -> RegressionPrepared:
    """Read and check what an evaluation is made of, and note in the record that it was read.

    Raises:
        UnfitInput: no largest error, a setting that is about classes, records that do not fit, or an attack that looks
            for the border of a class.
    """
    candidate = load_model(model)
    largest = _require_regression(config)
    data = read_holdout(holdout, config.limit, config.seed)
    require_fit(data, candidate.spec)
    layers, attacks = known_layers(candidate), attacks_of(config.attacks)
    threats = threats_of(config, candidate.spec.bounds, data.x[0].size, constraints_of(config, data))
    for threat in threats:
        if threat.norm == "l0" and proof_of(layers, threat) != "exact":
            raise UnfitInput(f"threat {threat.key}", "l0", "linf, l2 or l1 for a model that is not affine")
    record.uses(data.dataset, "holdout")
    record.reads("model", candidate.digest)
    plan = RegressionPlan(threats, attacks, config.seed, largest)
    return RegressionPrepared(candidate, layers, data, plan, config, target)


def known_layers(model: LoadedModel) -> list[Layer] | None:
    """The layers of a model of which something can be proven; of another what attacks find is all there is."""
    try:
        return layers_of(model.module, model.spec.input_shape)
    except UnfitInput:
        return None


def largest_error_of(config: EvaluateConfig) -> float:
    """The largest error that counts, in units of the label.

    Raises:
        UnfitInput: none.
    """
    if config.regression is None:
        raise UnfitInput(
            "evaluate.regression",
            "nothing",
            "largest_error, in units of the label",
            "Without the largest error that counts no interval for a mean error holds; say --largest-error.",
        )
    return config.regression.largest_error


def _require_regression(config: EvaluateConfig) -> float:
    refuse_settings(config, ABOUT_CLASSES, "a regression")
    if "class" in config.slices:
        raise UnfitInput("evaluate.slices", "class", "source alone, for a regression")
    if config.precision != "float32":
        raise UnfitInput("evaluate.precision", config.precision, "float32 for a regression")
    return largest_error_of(config)
