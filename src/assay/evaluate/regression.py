"""The step for a model of quantities: mean errors as they are and at the worst point of every ball, with proof.

``worst_case_error/<threat>`` is the mean over the records of the greatest error inside ball and box. Its interval holds
the truth from both sides: the lower end from what attacks find, the upper end from what no attack can exceed. Of an
affine model both are the closed form; else the bound is by linear relaxation or by the Lipschitz constant, whichever is
less; where neither can be had it is the largest error that counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay import lineage
from assay.errors import AssayError
from assay.evaluate import slices
from assay.evaluate.champion import find_champion
from assay.evaluate.deliver import Places, publish
from assay.evaluate.holdout import unseen
from assay.evaluate.how import Begun, how, subjects, trained_against
from assay.evaluate.measured import champion_of
from assay.evaluate.regression_measure import (
    RegressionMeasured,
    differences,
    measure_regression,
    regression_checks,
    regression_estimates,
    regression_facts,
    regression_outcomes,
    slice_estimates,
)
from assay.evaluate.regression_page import write_regression_page
from assay.evaluate.regression_plan import RegressionPrepared, known_layers
from assay.evidence import Evidence
from assay.models.spec import read_spec

__all__ = ["Quantities", "conclude_regression", "gives_quantities", "measure_quantities"]


@dataclass(frozen=True)
class Quantities:
    """What the attacks did.

    Fields:
        found: to the model.
        champion: digest of the model beside it, or empty.
        beside: what they did to that model, on the same records.
    """

    found: RegressionMeasured
    champion: str = ""
    beside: RegressionMeasured | None = None


def gives_quantities(model: Path) -> bool:
    """Whether a folder is a whole model without classes; what is wrong with another is for who loads it to say."""
    try:
        return read_spec(model).regression
    except AssayError:
        return False


def measure_quantities(prepared: RegressionPrepared, record: lineage.StepRecord) -> Quantities:
    """Attack a model, and the champion where there is one, on all records.

    Raises:
        Refused: a champion whose promotion does not verify.
        UnfitInput: a champion that the records do not fit.
    """
    candidate, data, plan, workers = prepared.candidate, prepared.data, prepared.plan, prepared.config.threads
    champion = find_champion(record.workspace, prepared.target, candidate.digest) if prepared.target else ""
    found = measure_regression(candidate, prepared.layers, data, plan, workers=workers)
    if not champion:
        return Quantities(found)
    holder = champion_of(champion, data, record)
    beside = measure_regression(holder, known_layers(holder), data, plan, workers=workers, checks=False)
    return Quantities(found, champion, beside)


def conclude_regression(
    prepared: RegressionPrepared, measured: Quantities, places: Places, record: lineage.StepRecord, begun: Begun
) -> dict[str, Any]:
    """Make evidence of what was measured, charge the attempt, write the files; returns the answer of the step."""
    candidate, data, config = prepared.candidate, prepared.data, prepared.config
    found, beside = measured.found, measured.beside
    estimates = regression_estimates(found, prepared.plan, config.confidence)
    if beside is not None:
        estimates |= differences(found, beside, prepared.plan, config.confidence)
    divided = slices.members(data, (), config.slices)
    estimates |= slice_estimates(found, prepared.plan, divided, config.confidence)
    checks = regression_checks(found, prepared.plan)
    made = Evidence(
        subjects=subjects(candidate, data, measured.champion),
        estimates=estimates,
        measured=_describe(prepared, found),
        soundness=checks | {"holdout_unseen": unseen(data, candidate.spec.trained.dataset, record.ledger)},
        run=begun.facts(record.run),
    )

    def page(path: Path) -> None:
        write_regression_page(path, made, found, beside)

    rows = regression_outcomes(data, found, beside)
    return publish(made, rows, places, record, config, len(data.rows), target=prepared.target, write_page=page)


def _describe(prepared: RegressionPrepared, found: RegressionMeasured) -> dict[str, Any]:
    return (
        how(prepared.config, prepared.data, prepared.plan)
        | regression_facts(found, prepared.plan, prepared.layers)
        | {
            "device": "cpu",
            "trained_against": trained_against(prepared.candidate.spec.trained),
            "target": prepared.target.to_json() if prepared.target else None,
        }
    )
