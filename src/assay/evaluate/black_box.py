"""The step for a model that can only be asked: counted queries, attacks that need no gradient, signed evidence.

The threat says so, and so does the name of every estimate under it: ``robust_accuracy/linf:0.1:untargeted:black-box:
queries-1000`` never answers a rule about ``linf:0.1``, because an adversary who knows the weights finds more.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from assay import canonical, catalog, lineage, versions
from assay.blackbox import pyfunc
from assay.blackbox.open_inference import OpenInference
from assay.blackbox.predict import Answers, Asked, Source
from assay.config.black_box import BlackBoxConfig
from assay.config.evaluate import EvaluateConfig
from assay.data.files import write_file
from assay.errors import UnfitInput
from assay.evaluate import soundness, summary
from assay.evaluate.blocks import block_count, block_rows
from assay.evaluate.deliver import deliver
from assay.evaluate.holdout import Holdout, constraints_of, read_holdout
from assay.evaluate.ladder import Rung, climb, ladder
from assay.evaluate.measure import Plan
from assay.evaluate.outcomes import BlockOutcome, Outcomes, outcomes_bytes
from assay.evaluate.selftest import self_test
from assay.evaluate.strength import TRANSFER, Transfer
from assay.evidence import Evidence
from assay.models.fit import deterministic
from assay.progress import track
from assay.threat import ThreatModel

BESIDE = 3
"""Queries a record for each attack besides its proposals: the clean row, where it begins, and what it found."""

NOT_FOR_BLACK_BOXES = (
    "zero_gradient_share",
    "scale_invariance",
    "gradient_free_not_better",
    "transfer_not_better",
    "accuracy_falls_with_epsilon",
    "chance_at_whole_box",
    "holdout_unseen",
)

__all__ = ["evaluate_black_box", "make_black_box_plan"]


@dataclass(frozen=True, kw_only=True)
class BlackBoxPlan(Plan):
    """What is measured of a model that can only be asked: the rungs are the whole ladder."""

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """The rungs."""
        return self.rungs


def evaluate_black_box(
    source: str, holdout: Path, config: EvaluateConfig, *, evidence: Path, outcomes: Path, run: str = ""
) -> dict[str, Any]:
    """Measure a model by asking: clean accuracy, and robust accuracy against attacks within a query budget.

    Args:
        source: address of an endpoint, or path of an MLflow model.
        holdout: dataset folder.
        config: threats, seed, and the section ``black_box``.
        evidence: the signed envelope to write.
        outcomes: Parquet to write, one row a record.
        run: id of the pipeline run.

    Returns:
        As `assay.evaluate.step.evaluate`, and ``queries {budget, asked, per_record}``.

    Raises:
        UnfitInput: records outside the box, answers that do not fit, attacks that need a gradient or more queries than
            the budget, an MLflow model without consent.
        Unreachable, Refused: the endpoint does not answer, or says no.
    """
    box = config.black_box or BlackBoxConfig()
    started, clock = datetime.now(UTC), time.monotonic()
    with lineage.step("evaluate", run) as record, deterministic(1), _opened(source, box) as (kind, model):
        data = read_holdout(holdout, config.limit, config.seed)
        classes = data.dataset.manifest.content.classes
        _require_inside(data, box)
        plan = make_black_box_plan(config, box, constraints_of(config, data))
        described = dict(model.describe())
        digest = canonical.digest(described) if kind == "endpoint" else str(described["digest"])
        record.uses(data.dataset, "holdout")
        record.reads("model", digest)
        asked = Asked(
            model, len(classes), box.answers, box.queries * len(data.y) * len(plan.threats), box.batch_records
        )
        found = _measure(asked, data, plan)
        estimates = summary.estimates(found, plan, config.confidence)
        queries = {
            "budget": box.queries,
            "asked": asked.queries,
            "per_record": round(asked.queries / len(data.y) / len(plan.threats), 3),
        }
        made = Evidence(
            subjects={kind: digest, "holdout": data.dataset.manifest.digest},
            estimates=estimates,
            measured=_how(config, box, data, plan, queries, described),
            soundness=_soundness(found, plan, box.answers),
            run={
                "run_id": record.run,
                "started": started.isoformat(timespec="seconds"),
                "ended": datetime.now(UTC).isoformat(timespec="seconds"),
                "host": platform.node(),
                "seconds": round(time.monotonic() - clock, 3),
            },
        )
        write_file(outcomes, outcomes_bytes(data.record_ids, data.y, found, plan.names))
        deliver(made, evidence, record.workspace)
        record.writes("evidence", made.id)
        record.metrics |= {name: estimate.value for name, estimate in estimates.items()}
    return {
        "evidence": str(evidence),
        "evidence_id": made.id,
        "estimates": {name: estimate.to_json() for name, estimate in estimates.items()},
        "sound": made.sound,
        "soundness": made.soundness,
        "truncated": False,
        "records": {"measured": len(data.y), "of": len(data.y)},
        "queries": queries,
    }


def make_black_box_plan(config: EvaluateConfig, box: BlackBoxConfig, constraints: Any = None) -> BlackBoxPlan:
    """Threats with their query budget, and the attacks that keep to it, the one that asks least first.

    Raises:
        UnfitInput: an attack that needs a gradient, one that may ask more than the budget, a threat beyond the box, or
            a setting of the section ``evaluate`` that a black box has no answer to.
    """
    for name in ("triggers", "aspects", "sets", "slices", "decide", "limit_s", "budget"):
        if getattr(config, name):
            raise UnfitInput(f"evaluate.{name}", str(getattr(config, name))[:100], "none for a black box")
    given = ladder(box.attacks)
    for rung in given:
        if not rung.gradient_free:
            raise UnfitInput(f"black_box.attacks: {rung.name}", "an attack that follows the gradient", _free())
    surrogate = Transfer()
    rungs = tuple(sorted((Rung(TRANSFER, surrogate), *given), key=_queries))
    most = BESIDE + sum(_queries(rung) + BESIDE for rung in rungs)
    if most > box.queries:
        raise UnfitInput(
            "black_box.queries",
            f"{box.queries}",
            f"at least the {most} that the attacks may ask for a record",
            "Give the attacks fewer queries, or the threat more.",
        )
    balls = [ThreatModel.parse(text, box.bounds) for text in config.threats]
    threats = tuple(
        replace(ball, knowledge="black-box", query_budget=box.queries, constraints=constraints) for ball in balls
    )
    if len({threat.key for threat in threats}) != len(threats):
        raise UnfitInput("threats", ", ".join(config.threats), "each threat once")
    return BlackBoxPlan(threats=threats, rungs=rungs, seed=config.seed)


def _free() -> str:
    """The attacks that need no gradient, for people."""
    free = [name for name in catalog.names("attacks") if getattr(catalog.member("attacks", name), "gradient_free", 0)]
    return f"one that asks only: {', '.join(free)}"


def _queries(rung: Rung) -> int:
    """The most that one record is asked by the proposals of an attack."""
    attack: Any = rung.attack
    if isinstance(attack, Transfer):
        return attack.epochs
    return int(attack.queries) * rung.restarts


def _white(threat: ThreatModel) -> ThreatModel:
    """The ball itself: what an attack that asks only moves in, whoever knows what."""
    return replace(threat, knowledge="white-box", query_budget=None)


def _measure(asked: Asked, data: Holdout, plan: Plan) -> Outcomes:
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    count = block_count(len(y), plan.block_records)
    return Outcomes(tuple(_block(asked, x, y, plan, index) for index in track(range(count), "attack", count)))


def _block(asked: Asked, x: torch.Tensor, y: torch.Tensor, plan: Plan, index: int) -> BlockOutcome:
    rows = block_rows(index, len(x), plan.block_records)
    x, y = x[rows], y[rows]
    first, again = asked(x), torch.cat([asked(part) for part in torch.split(x, -(-len(x) // 3))])
    tallies = {
        "records": len(x),
        "clean_not_finite": int((~first.isfinite().all(1)).sum()),
        "passes_differ": int(soundness.differ(first, again).sum()),
        "truncated": 0,
    }
    by = {}
    for threat in plan.threats:
        broken = climb(asked, x, y, _white(threat), plan.rungs, seed=plan.seed, block=index)
        by[threat.key] = broken.by.numpy()
        tallies |= {f"outside/{threat.key}": broken.outside, f"not_finite/{threat.key}": broken.not_finite}
    predicted = torch.where(first.isfinite().all(1), first.argmax(1), -1)
    return BlockOutcome(index, predicted.numpy(), by, tallies)


@dataclass(frozen=True, kw_only=True)
class _OnLabels:
    """An attack that is told the class alone, as a model that answers labels tells it."""

    attack: Any

    def __call__(self, model: nn.Module, *given: Any, **named: Any) -> torch.Tensor:
        found: torch.Tensor = self.attack(_Labels(model).eval(), *given, **named)
        return found


class _Labels(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x)
        return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(x)


def _soundness(found: Outcomes, plan: Plan, answers: Answers) -> dict[str, str]:
    """Of the checks of `assay.evaluate.soundness`, those that need no gradient; the others are not measured.

    The attacks are tried on the plane with what they are told here: where the model answers labels, with labels.
    """
    told = plan.rungs
    if answers == "labels":
        told = tuple(replace(rung, attack=_OnLabels(attack=rung.attack)) for rung in plan.rungs)
    tallies, device = found.tallies, torch.device("cpu")
    sums = {name: sum(tallies[f"{name}/{threat.key}"] for threat in plan.threats) for name in ("outside", "not_finite")}
    balls = [replace(_white(threat), constraints=None) for threat in plan.threats]
    said = {
        "finite_logits": not tallies["clean_not_finite"] and not sums["not_finite"],
        "attacks_stay_inside": not sums["outside"],
        "two_passes_agree": not tallies["passes_differ"],
        "attack_self_test": all(self_test(told, ball, device) for ball in balls),
    }
    verdicts = {name: "holds" if holds else "misses" for name, holds in said.items()}
    return verdicts | dict.fromkeys(NOT_FOR_BLACK_BOXES, "not_measured")


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
    return _named("model", pyfunc.opened(Path(source), box.pyfunc, most_values=1024, timeout_s=box.timeout_s))


@contextmanager
def _named(kind: str, model: AbstractContextManager[Source]) -> Iterator[tuple[str, Source]]:
    with model as source:
        yield kind, source


def _how(
    config: EvaluateConfig,
    box: BlackBoxConfig,
    data: Holdout,
    plan: Plan,
    queries: Mapping[str, Any],
    described: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "threats": {threat.key: threat.to_json() for threat in plan.threats},
        "primary": plan.threats[0].key,
        "attacks": {
            rung.name: catalog.settings(rung.attack) | ({"restarts": rung.restarts} if rung.restarts > 1 else {})
            for rung in plan.ladder
        },
        "knowledge": "black-box",
        "black_box": box.to_json() | {"model": dict(described)},
        "queries": dict(queries),
        "holdout_content": data.dataset.manifest.content_digest,
        "records": len(data.rows),
        "limit": config.limit,
        "block_records": plan.block_records,
        "seed": config.seed,
        "confidence": config.confidence,
        "threads": torch.get_num_threads(),
        "device": "cpu",
        "versions": versions.machine(),
        "code": versions.code_digest(),
        "image": versions.image(),
        "trained_against": {"method": "imported", "threat": "", "attack": {}},
    }
