"""How suspicious are records whose features are in a file of any size? Many nodes share the sums, one scores."""

import functools
from typing import Any

from kfp import dsl

from assay.components.score_features import component as scoring
from assay.components.sum_features import component as summing
from assay.config.resources import Resources
from assay.pipelines import placement


def build(resources: Resources) -> dsl.base_component.BaseComponent:
    """The pipeline, its tasks placed as the resources say; ``score_shards`` of them sum."""

    @dsl.pipeline
    def score_features(features: str, labels: str, trusted: str, trusted_labels: str):
        """Score every record by features that an encoder made, among the records of its label. No decision.

        Args:
            features: URI of a NumPy file (.npy) of float32 or float64, one row a record.
            labels: URI of a NumPy file of whole numbers, one a record.
            trusted: URI of the features of records known to be clean, as the same encoder made them.
            trusted_labels: URI of the labels of those records.
        """
        put = functools.partial(placement.place, resources=resources, step="score_features")
        given = {"features": _file(features, "features"), "labels": _file(labels, "labels")}
        given["run"] = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        states = _shared_out(put, given, resources.score_shards) if resources.score_shards > 1 else {}
        known = {
            "trusted": _file(trusted, "trusted"),
            "trusted_labels": _file(trusted_labels, "trusted-labels"),
        }
        put(scoring.score_features(**given, **known, **states))

    return score_features


def _file(uri: Any, name: str) -> Any:
    """The file behind a URI, as an artifact."""
    return dsl.importer(artifact_uri=uri, artifact_class=dsl.Artifact, reimport=True).set_display_name(name).output


def _shared_out(put: Any, given: dict[str, Any], shards: int) -> dict[str, Any]:
    """One task a shard; their states, for the one that scores."""
    numbered = [f"{number}/{shards}" for number in range(1, shards + 1)]
    with dsl.ParallelFor(items=numbered, name="shards") as shard:
        summed = put(summing.sum_features(**given, shard=shard))
    return {"states": dsl.Collected(summed.outputs["state"])}
