"""Components with the signatures of assay's own that do nothing but answer: every branch of a pipeline in a second."""

import importlib
import sys
import types
from typing import List  # noqa: UP035  # KFP knows no other list of artifacts

import pytest
from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Metrics, Model, Output

from assay.components import STEPS
from assay.components.authoring import component

PIPELINES = ("robust_training", "retrain_on_drift", "respond_to_incident", "evaluate_and_promote", "score_features")
OVER_COMPONENTS = ("decision", *PIPELINES)


@component
def ingest(
    sources: str,
    config: str,
    run: str,
    dataset: Output[Dataset],
    calibration: Output[Dataset],
    holdout: Output[Dataset],
    quarantine: Output[Artifact],
    metrics: Output[Metrics],
    summary: Output[Markdown],
):
    metrics.log_metric("kept", 3)


@component
def sanitize(
    dataset: Input[Dataset],
    calibration: Input[Dataset],
    config: str,
    run: str,
    kept: Output[Dataset],
    quarantine: Output[Artifact],
    metrics: Output[Metrics],
    page: Output[HTML],
    docs: Output[HTML],
):
    if config:
        from assay import errors

        raise getattr(errors, config)("dataset", "two\nlines", "one")


@component
def filter_poison(
    dataset: Input[Dataset],
    calibration: Input[Dataset],
    config: str,
    run: str,
    kept: Output[Dataset],
    quarantine: Output[Artifact],
    scores: Output[Artifact],
    metrics: Output[Metrics],
    page: Output[HTML],
):
    pass


@component
def sum_features(features: Input[Artifact], labels: Input[Artifact], shard: str, run: str, state: Output[Artifact]):
    pass


@component
def score_features(
    features: Input[Artifact],
    labels: Input[Artifact],
    run: str,
    scores: Output[Artifact],
    metrics: Output[Metrics],
    states: Input[List[Artifact]] = None,  # noqa: UP006
    trusted: Input[Artifact] = None,
    trusted_labels: Input[Artifact] = None,
):
    pass


@component
def train(
    dataset: Input[Dataset],
    calibration: Input[Dataset],
    config: str,
    run: str,
    model: Output[Model],
    metrics: Output[Metrics],
):
    pass


@component
def evaluate(
    model: Input[Model],
    holdout: Input[Dataset],
    config: str,
    target: str,
    run: str,
    evidence: Output[Artifact],
    outcomes: Output[Artifact],
    metrics: Output[Metrics],
    page: Output[HTML],
):
    pass


@component
def evaluate_shard(
    model: Input[Model],
    holdout: Input[Dataset],
    config: str,
    target: str,
    shard: str,
    run: str,
    part: Output[Artifact],
):
    pass


@component
def merge_evidence(
    parts: Input[List[Artifact]],  # noqa: UP006
    model: Input[Model],
    holdout: Input[Dataset],
    config: str,
    run: str,
    evidence: Output[Artifact],
    outcomes: Output[Artifact],
    metrics: Output[Metrics],
    page: Output[HTML],
):
    pass


@component
def gate(
    evidence: Input[Artifact],
    policy: str,
    target: str,
    run: str,
    decision: Output[Artifact],
    summary: Output[Markdown],
) -> str:
    return policy


@component
def promote(
    decision: Input[Artifact],
    evidence: Input[Artifact],
    model: Input[Model],
    target: str,
    run: str,
    promotion: Output[Artifact],
    summary: Output[Markdown],
) -> str:
    return run


@component
def withhold(decision: Input[Artifact], run: str, summary: Output[Markdown]) -> str:
    return run


@component
def monitor(
    reference: Input[Dataset],
    current: Input[Dataset],
    config: str,
    run: str,
    findings: Output[Artifact],
    metrics: Output[Metrics],
    page: Output[HTML],
) -> str:
    import os

    missing = [path for path in (reference.path, current.path) if not os.path.isdir(path)]
    return config if not missing else "missing"


@component
def record_action(action: str, run: str, summary: Output[Markdown]) -> str:
    return action


@component
def contain(ref: str, reason: str, run: str, findings: Output[Artifact], summary: Output[Markdown]) -> str:
    return reason


@component
def import_model(uri: str, run: str, model: Output[Model]):
    pass


@component
def report(
    dataset: Input[Dataset],
    ingest_quarantine: Input[Artifact],
    kept: Input[Dataset],
    sanitize_quarantine: Input[Artifact],
    filtered: Input[Dataset],
    filter_quarantine: Input[Artifact],
    scores: Input[Artifact],
    evidence: Input[Artifact],
    outcomes: Input[Artifact],
    decision: Input[Artifact],
    run: str,
    page: Output[HTML],
):
    pass


def stub(step: str) -> dsl.base_component.BaseComponent:
    return globals()[step]


def stubbed_pipelines(monkeypatch: pytest.MonkeyPatch) -> dict[str, types.ModuleType]:
    """The pipelines' modules, imported anew over the stubs until the test ends."""
    package = importlib.import_module("assay.pipelines")
    for name in OVER_COMPONENTS:  # so that there is something to go back to
        importlib.import_module(f"assay.pipelines.{name}")
    for step in STEPS:
        name = f"assay.components.{step}.component"
        module = types.ModuleType(name)
        setattr(module, step, stub(step))
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(importlib.import_module(f"assay.components.{step}"), "component", module, raising=False)
    for name in OVER_COMPONENTS:
        monkeypatch.delitem(sys.modules, f"assay.pipelines.{name}", raising=False)
        monkeypatch.delattr(package, name, raising=False)
    loaded = {name: importlib.import_module(f"assay.pipelines.{name}") for name in OVER_COMPONENTS}
    for name, module in loaded.items():
        monkeypatch.setitem(sys.modules, f"assay.pipelines.{name}", module)
    return loaded
