"""From sources to a decision: ingest, sanitize, filter, train, evaluate, gate, then promote or withhold."""

import functools

from kfp import dsl

from assay.components.filter_poison import component as filtering
from assay.components.ingest import component as ingesting
from assay.components.report import component as reporting
from assay.components.sanitize import component as sanitizing
from assay.components.train import component as training
from assay.config.resources import Resources
from assay.pipelines import decision, placement


def build(resources: Resources) -> dsl.base_component.BaseComponent:
    """The pipeline, its tasks placed as the resources say."""

    @placement.pipeline(resources)
    def robust_training(
        sources: str,
        policy: str,
        target: str,
        ingest: str = "",
        sanitize: str = "",
        filter: str = "",
        train: str = "",
        evaluate: str = "",
        gpu_node_selector: dict = {},  # noqa: B006  # KFP reads the default and never calls with it
    ):
        """Train a model on data from several sources and promote it only on evidence that it is robust.

        Args:
            sources: Batches to read, a JSON list of {name, uri, batch, labels_uri, trust}. Records of trusted sources
                are never trained on: half calibrate the checks, half are what the model is measured on.
            policy: What must hold before promotion, as JSON {rules, confidence, accept_local_keys, valid_for_s}.
            target: Where a promoted model goes, as JSON {model, alias}.
            ingest: Settings of ingest as JSON; empty for the defaults, as for every step below.
            sanitize: Settings of sanitize, such as {"removal_cap": 0.5}.
            filter: Settings of the poison filter, such as {"detectors": {"spectral": {}}}.
            train: Settings of training, such as {"model": {"name": "mlp"}, "epochs": 20}.
            evaluate: What is measured, such as {"threats": ["linf:0.1"]}.
            gpu_node_selector: Labels of the node that train and evaluate run on, as a JSON object.
        """
        put = functools.partial(placement.place, resources=resources, node_selector=gpu_node_selector)
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER

        ingested = put(ingesting.ingest(sources=sources, config=ingest, run=run), "ingest")
        calibration = ingested.outputs["calibration"]
        sanitized = put(
            sanitizing.sanitize(dataset=ingested.outputs["dataset"], calibration=calibration, config=sanitize, run=run),
            "sanitize",
        )
        filtered = put(
            filtering.filter_poison(dataset=sanitized.outputs["kept"], calibration=calibration, config=filter, run=run),
            "filter_poison",
        )
        trained = put(
            training.train(dataset=filtered.outputs["kept"], calibration=calibration, config=train, run=run), "train"
        )
        evaluated, gated = decision.decide(
            put,
            model=trained.outputs["model"],
            holdout=ingested.outputs["holdout"],
            evaluate=evaluate,
            policy=policy,
            target=target,
            run=run,
            shards=resources.evaluate_shards,
        )
        put(
            reporting.report(
                dataset=ingested.outputs["dataset"],
                ingest_quarantine=ingested.outputs["quarantine"],
                kept=sanitized.outputs["kept"],
                sanitize_quarantine=sanitized.outputs["quarantine"],
                filtered=filtered.outputs["kept"],
                filter_quarantine=filtered.outputs["quarantine"],
                scores=filtered.outputs["scores"],
                evidence=evaluated.outputs["evidence"],
                outcomes=evaluated.outputs["outcomes"],
                decision=gated.outputs["decision"],
                run=run,
            ),
            "report",
        )

    return robust_training
