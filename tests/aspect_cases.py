"""A model, records and plans for aspects, and the whole way from a folder to evidence, page and gate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluate_cases import THREATS, dataset, digits, linear_model, plan
from torch import nn

from assay.config.evaluate import EvaluateConfig
from assay.config.gate import PolicyConfig
from assay.evaluate.aspects.scene import Scene
from assay.evaluate.holdout import Holdout
from assay.evaluate.measure import measure
from assay.evaluate.outcomes import BlockOutcome, Outcomes
from assay.evaluate.step import evaluate
from assay.evidence import Evidence
from assay.gate.verdict import Case
from assay.models.spec import Architecture, ModelSpec, Preprocessing, Trained
from assay.signing import unseal
from assay.workspace import Workspace

SPEC = ModelSpec(
    architecture=Architecture(name="mlp"),
    input_shape=(1, 8, 8),
    classes=tuple("0123456789"),
    preprocessing=Preprocessing(mean=(0.0,), scale=(1.0,)),
    trained=Trained(method="cross_entropy"),
)


def held(start: int, end: int, name: str = "held") -> Holdout:
    """Digits that no model of these tests learned from: some of the first 360."""
    x, y = (part[start:end].numpy() for part in digits())
    return Holdout(dataset(x[:, 0], y, name, classes=10), np.arange(len(y)), x, y)


def scene(
    model: nn.Module,
    *,
    records: int = 180,
    attacks: bool = False,
    sets: dict[str, Holdout] | None = None,
    **changes: Any,
) -> Scene:
    """Digits before a model; with ``attacks`` the ladder has run."""
    data, made = held(0, records), plan(**changes)
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    blank = BlockOutcome(0, data.y, {threat.key: np.full(records, -1) for threat in THREATS})
    outcomes = measure(model, x, y, made, checks=False) if attacks else Outcomes((blank,))
    return Scene(model, SPEC, data, x, y, made, outcomes, sets or {}, 0.95)


@dataclass(frozen=True)
class Seen:
    """What one evaluation wrote."""

    evidence: Evidence
    page: str
    case: Case


def looked(workspace: Workspace, folder: Path, **changes: Any) -> Seen:
    """Evaluate a linear model of two classes on a table, with some aspects, and lay it before a gate."""
    workspace.initialise()
    rng = np.random.default_rng(1)
    weight, x = rng.standard_normal(8), rng.uniform(0.1, 0.9, (200, 8)).astype(np.float32)
    y = ((x - 0.5) @ weight + 0.1 * rng.standard_normal(200) > 0).astype(np.int64)
    dataset(x, y).save(folder / "holdout")
    linear_model(folder / "model", 6 * np.stack([0 * weight, weight]), np.array([0, -3 * weight.sum()]), x[:8])
    config = EvaluateConfig(threats=("linf:0.05",), attacks={"pgd": {"steps": 10, "restarts": 1}}, **changes)
    places = {name: folder / name for name in ("evidence", "outcomes", "page")}
    evaluate(folder / "model", folder / "holdout", config, **places)
    opened = unseal(places["evidence"].read_bytes(), workspace.keyring, kind="evidence", role="evaluator")
    made = Evidence.from_statement(opened.statement)
    policy = PolicyConfig(rules=({"rule": "at_least", "estimate": "clean_accuracy", "value": 0.5},))
    case = Case(evidence=made, policy=policy, now=datetime.now(UTC), signed=True)
    return Seen(made, places["page"].read_text(), case)
