"""When production has drifted far enough, train again; otherwise write down what was found and leave it."""

import functools

from kfp import dsl

from assay.components.monitor import component as monitoring
from assay.components.record_action import component as recording
from assay.config.resources import Resources
from assay.pipelines import placement, robust_training


def build(resources: Resources) -> dsl.base_component.BaseComponent:
    """The pipeline, with `robust_training` nested in one branch."""
    retraining = robust_training.build(resources)

    @placement.pipeline(resources)
    def retrain_on_drift(
        reference: str,
        current: str,
        sources: str,
        policy: str,
        target: str,
        monitor: str = "",
        ingest: str = "",
        sanitize: str = "",
        filter: str = "",
        train: str = "",
        evaluate: str = "",
        gpu_node_selector: dict = {},  # noqa: B006  # KFP reads the default and never calls with it
    ):
        """Compare production with the reference, and run the whole of robust_training when the answer is retrain.

        Args:
            reference: URI of the dataset folder that counts as normal, pinned: what the model in use was trained on.
            current: URI of the dataset folder of the production window.
            sources: Batches to train on, a JSON list of {name, uri, batch, labels_uri, trust}.
            policy: What must hold before promotion, as JSON {rules, confidence, accept_local_keys, valid_for_s}.
            target: Where a promoted model goes, as JSON {model, alias}.
            monitor: Settings of monitor as JSON; empty for the defaults, as for every step below.
            ingest: Settings of ingest, such as {"holdout_share": 0.5}.
            sanitize: Settings of sanitize, such as {"removal_cap": 0.5}.
            filter: Settings of the poison filter, such as {"detectors": {"spectral": {}}}.
            train: Settings of training, such as {"model": {"name": "mlp"}, "epochs": 20}.
            evaluate: What is measured, such as {"threats": ["linf:0.1"]}.
            gpu_node_selector: Labels of the node that train and evaluate run on, as a JSON object.
        """
        put = functools.partial(placement.place, resources=resources, node_selector=gpu_node_selector)
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER

        pinned = dsl.importer(artifact_uri=reference, artifact_class=dsl.Dataset, reimport=True)
        window = dsl.importer(artifact_uri=current, artifact_class=dsl.Dataset, reimport=True)
        monitored = put(
            monitoring.monitor(
                reference=pinned.set_display_name("reference").output,
                current=window.set_display_name("current").output,
                config=monitor,
                run=run,
            ),
            "monitor",
        )
        action = monitored.outputs["Output"]
        selector = {placement.NODE_SELECTOR: gpu_node_selector} if resources.runtime_node_selector else {}
        with dsl.If(action == "retrain", name="drifted"):
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

    return retrain_on_drift
