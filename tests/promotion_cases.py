"""What the tests of gate and promotion share: a model folder, evidence about it, policies, a workspace with keys."""

from __future__ import annotations

import copy
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from assay import canonical
from assay.config.base import parse
from assay.config.gate import PolicyConfig
from assay.config.root import Target
from assay.estimate import Estimate, paired_difference, proportion
from assay.evidence import Evidence
from assay.gate.step import gate
from assay.models.spec import (
    GOLDEN,
    SPEC,
    WEIGHTS,
    Architecture,
    ModelSpec,
    Preprocessing,
    Trained,
    model_digest,
    spec_bytes,
)
from assay.promote import promote
from assay.registry import Registry
from assay.workspace import Workspace

TARGET = Target(model="digits", alias="champion")
FLOOR = {"rule": "at_least", "estimate": "clean_accuracy", "value": 0.8}
NO_WORSE = {"rule": "no_worse_than", "estimate": "clean_accuracy", "margin": 0.05, "without_champion": "holds"}


def policy(*rules: dict[str, Any], **settings: Any) -> PolicyConfig:
    return parse(PolicyConfig, {"rules": list(rules or (FLOOR,))} | settings, "policy")


def write_model(folder: Path, weights: bytes = b"weights") -> Path:
    """The three files of a model; promotion looks at their bytes alone."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = ModelSpec(
        architecture=Architecture(name="linear"),
        input_shape=(2,),
        classes=("no", "yes"),
        preprocessing=Preprocessing(mean=(0.0, 0.0), scale=(1.0, 1.0)),
        trained=Trained(method="cross_entropy"),
    )
    (folder / SPEC).write_bytes(spec_bytes(spec, weights, b"golden"))
    (folder / WEIGHTS).write_bytes(weights)
    (folder / GOLDEN).write_bytes(b"golden")
    return folder


def ago(**span: float) -> dict[str, Any]:
    """The ``run`` of evidence measured so long ago."""
    return {"ended": (datetime.now(UTC) - timedelta(**span)).isoformat()}


def evidence_about(model: str, **changes: Any) -> Evidence:
    """Evidence measured a minute ago: 930 of 1000 clean, 600 of 1000 under linf:0.1, 40 of 1000 backdoor."""
    estimates = {
        "clean_accuracy": proportion(930, 1000),
        "robust_accuracy/linf:0.1": proportion(600, 1000),
        "backdoor_success": proportion(40, 1000),
    }
    made = Evidence(
        subjects={"model": model, "holdout": "b" * 64, "dataset": "c" * 64},
        estimates=estimates,
        measured={"threats": {"linf:0.1": {}}, "attacks": {"pgd": {"steps": 40, "restarts": 5}}, "seed": 0},
        soundness={"gradients": "holds"},
        run=ago(minutes=1),
    )
    return replace(made, **changes)


def estimate(value: float, low: float, high: float, **changes: Any) -> Estimate:
    facts: dict[str, Any] = {"value": value, "low": low, "high": high, "n": 100, "confidence": 0.99, "method": "given"}
    return Estimate(**facts | changes)


def against_champion(champion: str, only_first: int = 10, only_second: int = 10) -> dict[str, Any]:
    """Changes that make evidence a comparison with a champion on 1000 records."""
    base = evidence_about("a" * 64)
    difference = {"clean_accuracy_minus_champion": paired_difference(only_first, only_second, 1000)}
    return {"subjects": base.subjects | {"champion": champion}, "estimates": base.estimates | difference}


def moved(candidate: Candidate, home: Path, patch: Any) -> Candidate:
    """A candidate with a copy of its workspace, which the environment then names: made once, damaged often."""
    shutil.copytree(candidate.workspace.home, home)
    patch.setenv("ASSAY_HOME", str(home))
    here = copy.copy(candidate)
    here.workspace = Workspace.from_env()
    return here


class Candidate:
    """A model on its way through gate and promotion in one workspace."""

    def __init__(self, workspace: Workspace, folder: Path, weights: bytes = b"weights", **changes: Any) -> None:
        self.workspace, self.folder = workspace, folder
        workspace.initialise()
        self.model = changes.pop("model", None) or write_model(folder / "model", weights)
        self.digest = model_digest(self.model)
        subjects = changes.pop("subjects", {})
        made = evidence_about(self.digest, **changes)
        self.evidence = replace(made, subjects=made.subjects | {**subjects, "model": self.digest})
        self.evidence_path, self.decision_path = folder / "evidence.dsse.json", folder / "decision.dsse.json"
        self.write_evidence()

    def write_evidence(self) -> None:
        self.evidence.write(self.evidence_path, self.workspace.signers("evaluator"))

    def gate(self, rules: PolicyConfig | None = None, target: Target = TARGET, **more: Any) -> dict[str, Any]:
        return gate(self.evidence_path, rules or policy(), target=target, decision=self.decision_path, **more)

    def promote(self, target: Target = TARGET, **more: Any) -> dict[str, Any]:
        with_store(self.workspace)
        return promote(self.decision_path, self.evidence_path, self.model, target=target, **more)

    def through(self, rules: PolicyConfig | None = None) -> dict[str, Any]:
        assert self.gate(rules)["decision"] == "promote"
        return self.promote()


def with_store(workspace: Workspace) -> None:
    """An empty MLflow store in the workspace: a copy of one made once, since making one takes seconds."""
    there = workspace.home / "mlflow.db"
    if workspace.tracking_uri == f"sqlite:///{there}" and not there.exists():
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_empty_store(), there)


@cache
def _empty_store() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="assay-test-store-"))
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    Registry(replace(Workspace.from_env(), home=folder, tracking_uri=uri)).probe()
    return folder / "mlflow.db"


def tree(folder: Path) -> dict[str, str]:
    """Names and digests of everything below a folder that may be empty or missing."""
    return canonical.tree_files(folder) if folder.is_dir() and any(folder.rglob("*")) else {}


def state(workspace: Workspace, model: str = "digits") -> dict[str, Any]:
    """What a promotion changes: names of the ledger, versions and aliases in MLflow."""
    registry = Registry(workspace)
    versions = {str(version.version): version.tags for version in registry.all_versions(model)}
    return {"ledger": workspace.ledger.names(), "versions": versions, "aliases": registry.aliases(model)}
