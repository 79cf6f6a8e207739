"""Models of quantities whose worst error has a closed form, records for them, and a champion beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from model_cases import history, spec

from assay.canonical import tree_digest, tree_files
from assay.config.base import parse
from assay.config.evaluate import EvaluateConfig
from assay.config.root import Target
from assay.data.dataset import Dataset
from assay.evidence import Evidence
from assay.ledger import put_folder
from assay.models.assemble import assemble
from assay.models.folder import save_model
from assay.models.spec import Preprocessing
from assay.signing import seal, statement, unseal
from assay.workspace import Workspace

Floats = npt.NDArray[np.float64]
TARGET = Target(model="prices", alias="champion")
EPSILON = 0.05
THREAT = f"linf:{EPSILON}"
LARGEST = 8.0


def records(n: int = 600, seed: int = 0) -> tuple[Floats, Floats]:
    """(n, 3) away from the edges of the box, so that no ball is cut, and quantities with noise."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(0.2, 0.8, (n, 3)).astype(np.float32).astype(np.float64)
    return x, x @ [3.0, -2.0, 0.5] + draw.normal(0, 0.5, n)


def dataset(x: Floats, y: Floats, batches: tuple[str, ...] = ("clinic/a",)) -> Dataset:
    """Records dealt out to batches in turn."""
    names = [batches[at % len(batches)] for at in range(len(y))]
    keys = {"batch": pa.array(names, pa.string()), "row": pa.array(np.arange(len(y)), pa.int64())}
    columns = {name: pa.array(x[:, at]) for at, name in enumerate("uvw")}
    table = pa.table({**keys, **columns, "label": pa.array(y)})
    first = history().sources[0]
    shares = (replace(first, source=source, batch=batch) for source, _, batch in (it.partition("/") for it in batches))
    return Dataset.make(table, [], replace(history(), sources=tuple(shares)))


def plane(path: Path, weight: Any, bias: float) -> Path:
    """The folder of a model that says ``weight.x + bias``."""
    of = spec("linear", (3,), classes=0).model_copy(
        update={"preprocessing": Preprocessing(mean=(0.0,) * 3, scale=(1.0,) * 3)}
    )
    module = assemble(of)
    with torch.no_grad():
        module.network[1].weight.copy_(torch.tensor([weight]))
        module.network[1].bias.fill_(bias)
    save_model(path, module, of, np.full((1, 3), 0.5, np.float32))
    return path


def errors(x: Floats, y: Floats, weight: Any, bias: float, epsilon: float = 0.0) -> Floats:
    """The greatest errors of a plane in a ball of linf that the box does not cut."""
    return np.asarray(np.abs(x @ np.asarray(weight) + bias - y) + epsilon * np.abs(weight).sum())


def config(**changes: Any) -> EvaluateConfig:
    given = {"threats": [THREAT], "attacks": {"pgd": {"steps": 10, "restarts": 1}}}
    return parse(EvaluateConfig, given | {"regression": {"largest_error": LARGEST}} | changes, "evaluate")


def read(path: Path, workspace: Workspace) -> Evidence:
    return Evidence.from_statement(
        unseal(path.read_bytes(), workspace.keyring, kind="evidence", role="evaluator").statement
    )


def promoted(workspace: Workspace, model: Path) -> str:
    """Bind the first promotion of a model, as `assay promote` does; returns its digest."""
    digest = tree_digest(tree_files(model))
    put_folder(workspace.ledger, f"models/{digest}", model)
    rests = {"evidence": "e" * 64, "decision": "d" * 64}
    body = {"target": TARGET.to_json(), "sequence": 1, "previous": "", **rests}
    document = statement(
        "promotion", {"model": digest, **rests}, body | {"run": {"promoted_at": "2026-01-01T00:00:00+00:00"}}
    )
    place = f"promotions/{TARGET.model}@{TARGET.alias}/00000001.dsse.json"
    workspace.ledger.put(place, seal(document, workspace.signers("promoter")))
    return digest
