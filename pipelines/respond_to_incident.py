"""When something turns out poisoned: put it on record, and train without it when what serves learned from it."""

import functools

from kfp import dsl

from assay.components.contain import component as containing
from assay.components.record_action import component as recording
from assay.config.resources import Resources
from assay.pipelines import placement, robust_training


def build(resources: Resources) -> dsl.base_component.BaseComponent:
    """The pipeline, with `robust_training` nested in one branch."""
    retraining = robust_training.build(resources)

    @placement.pipeline(resources)
    def respond_to_incident(
        ref: str,
        reason: str,
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
        """Sign an incident about a record, batch, source or model; when what serves is affected, train anew.

        Args:
            ref: What turned out poisoned, such as batch:vendor-c/2026-10.
            reason: Why, for the incident.
            sources: Batches to train on instead, a JSON list of {name, uri, batch, labels_uri, trust}, without those
                that the incident names: ingest refuses them.
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

        contained = put(containing.contain(ref=ref, reason=reason, run=run), "contain")
        action = contained.outputs["Output"]
        selector = {placement.NODE_SELECTOR: gpu_node_selector} if resources.runtime_node_selector else {}
        with dsl.If(action == "retrain", name="serving"):
            retraining(
                sources=sources,
                policy=policy,
                target=target,
                ingest=ingest,
                sanitize=sanitize,
                filter=filter,
                train=train,
                evaluate=evaluate,
                **selector,
            )
        with dsl.Else(name="left-alone"):
            put(recording.record_action(action=action, run=run), "record_action")

    return respond_to_incident
