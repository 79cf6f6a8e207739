"""A workspace with keys, a table held out and linear models of it, measured by the step on files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from evaluate_cases import dataset, linear_model

from assay.canonical import tree_digest, tree_files
from assay.config.evaluate import EvaluateConfig
from assay.config.root import Target
from assay.evaluate.step import evaluate
from assay.evidence import Evidence
from assay.ledger import put_folder
from assay.signing import seal, statement, unseal
from assay.workspace import Workspace

EPSILON = 0.05
TARGET = Target(model="table", alias="champion")
CONFIG = EvaluateConfig(
    threats=(f"linf:{EPSILON}",), attacks={"fgsm": {}, "pgd": {"steps": 10, "restarts": 1}}, threads=2
)
WEIGHT = np.random.default_rng(7).standard_normal(8)
OTHER = WEIGHT + 0.8 * np.random.default_rng(8).standard_normal(8)


def records(count: int = 300) -> tuple[Any, Any]:
    """A table in which a noisy version of the plane says the class."""
    draw = np.random.default_rng(1)
    x = draw.uniform(0.1, 0.9, (count, 8)).astype(np.float32)
    y = (centred(x, WEIGHT) + 0.2 * draw.standard_normal(count) > 0).astype(np.int64)
    return x, y


def centred(x: Any, weight: Any) -> Any:
    return (x.astype(float) - 0.5) @ weight


def left(x: Any, y: Any, weight: Any) -> tuple[Any, Any]:
    """Exact, for the box is out of reach: margin of the true class, and what is left of it in the worst case."""
    margin = np.where(y == 1, 1, -1) * centred(x, weight)
    return margin > 0, margin - EPSILON * np.abs(weight).sum() > 0


class Case:
    """A workspace with keys, a hold-out, and a linear model."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace, self.folder = workspace, folder
        workspace.initialise()
        self.x, self.y = records()
        self.holdout, self.model = folder / "holdout", folder / "model"
        dataset(self.x, self.y).save(self.holdout)
        self.digest = self.save(self.model, WEIGHT)

    def save(self, path: Path, weight: Any, **changes: Any) -> str:
        bias = 0.5 * weight.sum()
        return linear_model(path, np.stack([0 * weight, weight]), np.array([0, -bias]), self.x[:8], **changes)

    def evaluate(self, name: str = "e", config: EvaluateConfig = CONFIG, **more: Any) -> dict[str, Any]:
        places = {"evidence": self.folder / f"{name}.dsse.json", "outcomes": self.folder / f"{name}.parquet"}
        return evaluate(more.pop("model", self.model), self.holdout, config, **places, **more)

    def read(self, name: str = "e") -> Evidence:
        data = (self.folder / f"{name}.dsse.json").read_bytes()
        opened = unseal(data, self.workspace.keyring, kind="evidence", role="evaluator")
        return Evidence.from_statement(opened.statement)

    def promoted(self, model: Path, sequence: int = 1, **changes: Any) -> str:
        """Bind a promotion of a model, signed by the promoter unless another role is given."""
        digest = tree_digest(tree_files(model))
        put_folder(self.workspace.ledger, f"models/{digest}", model)
        rests = {"evidence": "e" * 64, "decision": "d" * 64}
        body = {"target": TARGET.to_json(), "sequence": sequence, "previous": "", **rests, **changes.pop("body", {})}
        body["run"] = {"promoted_at": "2026-01-01T00:00:00+00:00"}
        document = statement("promotion", {"model": digest, **rests}, body)
        data = seal(document, self.workspace.signers(changes.pop("role", "promoter")))
        self.workspace.ledger.put(f"promotions/table@champion/{sequence:08d}.dsse.json", data)
        return digest
