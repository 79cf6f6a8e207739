"""The gate alone: for a model and data that assay did not train."""

import functools

from kfp import dsl

from assay.components.import_model import component as importing
from assay.components.ingest import component as ingesting
from assay.config.resources import Resources
from assay.pipelines import decision, placement


def build(resources: Resources) -> dsl.base_component.BaseComponent:
    """The pipeline, its tasks placed as the resources say."""

    @placement.pipeline(resources)
    def evaluate_and_promote(
        model: str,
        sources: str,
        policy: str,
        target: str,
        ingest: str = "",
        evaluate: str = "",
        gpu_node_selector: dict = {},  # noqa: B006  # KFP reads the default and never calls with it
    ):
        """Attack a model that was trained elsewhere, and promote it only on evidence that it is robust.

        Args:
            model: URI of the model's folder: model.json, weights.safetensors, golden.parquet.
            sources: Batches to measure it on, a JSON list of {name, uri, batch, labels_uri, trust}; at least one of
                them trusted, since a model is measured on the hold-out part of trusted records alone.
            policy: What must hold before promotion, as JSON {rules, confidence, accept_local_keys, valid_for_s}.
            target: Where a promoted model goes, as JSON {model, alias}.
            ingest: Settings of ingest as JSON; empty for the defaults, as for the step below.
            evaluate: What is measured, such as {"threats": ["linf:0.1"]}.
            gpu_node_selector: Labels of the node that evaluate runs on, as a JSON object.
        """
        put = functools.partial(placement.place, resources=resources, node_selector=gpu_node_selector)
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER

        imported = put(importing.import_model(uri=model, run=run), "import_model")
        ingested = put(ingesting.ingest(sources=sources, config=ingest, run=run), "ingest")
        decision.decide(
            put,
            model=imported.outputs["model"],
            holdout=ingested.outputs["holdout"],
            evaluate=evaluate,
            policy=policy,
            target=target,
            run=run,
            shards=resources.evaluate_shards,
        )

    return evaluate_and_promote
