"""The step for a model that can only be asked: counted queries, attacks that need no gradient, signed evidence.

The threat says so, and so does the name of every estimate under it: ``robust_accuracy/linf:0.1:untargeted:black-box:
queries-1000`` never answers a rule about ``linf:0.1``, because an adversary who knows the weights finds more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay import canonical, lineage
from assay.blackbox import pyfunc
from assay.blackbox.boosted_trees import ENDINGS, read_boosted_trees
from assay.blackbox.open_inference import OpenInference
from assay.blackbox.predict import Asked, Source
from assay.config.black_box import BlackBoxConfig
from assay.config.evaluate import EvaluateConfig
from assay.errors import UnfitInput
from assay.estimate import Estimate
from assay.evaluate import summary
from assay.evaluate.black_box_blocks import CHECKED, ON_LABELS, ask, may_ask, verdicts
from assay.evaluate.black_box_plan import BlackBoxPlan, make_black_box_plan
from assay.evaluate.black_box_quantities import (
    ask_quantities,
    make_quantities_plan,
    may_ask_quantities,
    quantity_verdicts,
)
from assay.evaluate.deliver import Places, publish
from assay.evaluate.holdout import Holdout, constraints_of, read_holdout
from assay.evaluate.how import Begun, how
from assay.evaluate.outcomes import outcomes_bytes
from assay.evaluate.regression_measure import regression_estimates, regression_facts, regression_outcomes
from assay.evaluate.regression_plan import RegressionPlan
from assay.evidence import Evidence
from assay.models.fit import deterministic

__all__ = ["evaluate_black_box"]


def evaluate_black_box(
    source: str, holdout: Path, config: EvaluateConfig, *, evidence: Path, outcomes: Path, run: str = ""
) -> dict[str, Any]:
    """Measure a model by asking: clean accuracy, and robust accuracy against attacks within a query budget.

    Where the labels are quantities: mean errors, and the greatest that attacks find within the budget.

    Args:
        source: address of an endpoint, or path of an MLflow model or of boosted trees.
        holdout: dataset folder.
        config: threats, seed, and the section ``black_box``.
        evidence: the signed envelope to write.
        outcomes: Parquet to write, one row a record.
        run: id of the pipeline run.

    Returns:
        As `assay.evaluate.step.evaluate`, and ``queries {budget, asked, checks, per_record}``: asked in all, of those
        by the checks at other radii, and of the others for a record and threat.

    Raises:
        UnfitInput: records outside the box, answers that do not fit, attacks that need a gradient or more queries than
            the budget, an MLflow model without consent.
        Unreachable, Refused: the endpoint does not answer, or says no.
    """
    box = config.black_box or BlackBoxConfig()
    begun = Begun()
    with lineage.step("evaluate", run) as record, deterministic(1), _opened(source, box) as (kind, model):
        data = read_holdout(holdout, config.limit, config.seed)
        _require_inside(data, box)
        plan = _plan(config, box, data)
        described = dict(model.describe())
        digest = canonical.digest(described) if kind == "endpoint" else str(described["digest"])
        record.uses(data.dataset, "holdout")
        record.reads("model", digest)
        if isinstance(plan, RegressionPlan):
            found = _quantities(model, data, plan, config, box)
        else:
            found = _classes(model, data, plan, config, box)
        queries = {
            "budget": box.queries,
            "asked": found.asked,
            "checks": found.checks,
            "per_record": round((found.asked - found.checks) / len(data.y) / len(plan.threats), 3),
        }
        made = Evidence(
            subjects={kind: digest, "holdout": data.dataset.manifest.digest},
            estimates=found.estimates,
            measured=how(config, data, plan) | found.facts | _asked(box, queries, described),
            soundness=found.soundness,
            run=begun.facts(record.run),
        )
        places = Places(evidence, outcomes)
        return publish(made, found.rows, places, record, config, len(data.y)) | {"queries": queries}


@dataclass(frozen=True)
class _Found:
    """What asking told.

    Fields:
        estimates, facts, soundness: as evidence has them; ``facts`` are those of this kind of model alone.
        rows: what became of every record, as Parquet.
        asked, checks: queries in all, and those of the checks at other radii.
    """

    estimates: dict[str, Estimate]
    facts: dict[str, Any]
    soundness: dict[str, str]
    rows: bytes
    asked: int
    checks: int


def _plan(config: EvaluateConfig, box: BlackBoxConfig, data: Holdout) -> BlackBoxPlan | RegressionPlan:
    if data.dataset.manifest.content.regression:
        return make_quantities_plan(config, box, data)
    if config.regression is not None:
        raise UnfitInput("evaluate.regression", "settings of a regression", "none for a model of classes")
    return make_black_box_plan(config, box, data.x[0].size, constraints_of(config, data))


def _classes(model: Source, data: Holdout, plan: BlackBoxPlan, config: EvaluateConfig, box: BlackBoxConfig) -> _Found:
    classes, most = data.dataset.manifest.content.classes, may_ask(len(data.y), plan, box.queries)
    asked = Asked(model, len(classes), box.answers, most, box.batch_records)
    found = ask(asked, data, plan)
    return _Found(
        estimates=summary.estimates(found, plan, config.confidence),
        facts={},
        soundness=verdicts(found, torch.from_numpy(data.y), plan, box.answers),
        rows=outcomes_bytes(data.record_ids, data.y, found, plan.names),
        asked=asked.queries,
        checks=sum(found.tallies[f"check_queries/{threat.key}"] for threat in plan.threats),
    )


def _quantities(
    model: Source, data: Holdout, plan: RegressionPlan, config: EvaluateConfig, box: BlackBoxConfig
) -> _Found:
    most = may_ask_quantities(len(data.rows), plan, box.queries)
    asked = Asked(model, 1, box.answers, most, box.batch_records)
    found, checks = ask_quantities(asked, data, plan)
    return _Found(
        estimates=regression_estimates(found, plan, config.confidence),
        facts=regression_facts(found, plan, None),
        soundness=quantity_verdicts(found, plan),
        rows=regression_outcomes(data, found),
        asked=asked.queries,
        checks=checks,
    )


def _asked(box: BlackBoxConfig, queries: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, Any]:
    """How a model was measured that only answers."""
    return {
        "knowledge": "black-box",
        "black_box": box.to_json() | {"model": dict(described)},
        "queries": dict(queries),
        "soundness": {"checked_records": CHECKED, "self_test_on_labels": ON_LABELS},
        "device": "cpu",
        "trained_against": {"method": "imported", "threat": "", "attack": {}},
    }


def _require_inside(data: Holdout, box: BlackBoxConfig) -> None:
    low, high = (np.float32(bound) for bound in box.bounds)
    if not (data.x.min() >= low and data.x.max() <= high):
        raise UnfitInput(
            "hold-out",
            f"values in [{data.x.min():.6g}, {data.x.max():.6g}]",
            f"values in the box, {list(box.bounds)}",
            "Set evaluate.black_box.bounds.",
        )


def _opened(source: str, box: BlackBoxConfig) -> AbstractContextManager[tuple[str, Source]]:
    """What the model is called among the evidence's subjects, and the model."""
    if source.startswith(("http://", "https://")):
        endpoint = OpenInference(
            url=source, most_values=1024, timeout_s=box.timeout_s, attempts=box.attempts, output=box.output
        )
        return nullcontext(("endpoint", endpoint))
    if Path(source).suffix in ENDINGS:
        return nullcontext(("model", read_boosted_trees(Path(source))))
    return _named("model", pyfunc.opened(Path(source), box.pyfunc, most_values=1024, timeout_s=box.timeout_s))


@contextmanager
def _named(kind: str, model: AbstractContextManager[Source]) -> Iterator[tuple[str, Source]]:
    with model as source:
        yield kind, source
