"""How suspicious is each record, by features that are in a file of any size?"""

from typing import List  # noqa: UP035  # KFP knows no other list of artifacts

from kfp import dsl

from assay.components.authoring import component


@component
def score_features(
    features: dsl.Input[dsl.Artifact],
    labels: dsl.Input[dsl.Artifact],
    run: str,
    scores: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    states: dsl.Input[List[dsl.Artifact]] = None,  # noqa: UP006
    trusted: dsl.Input[dsl.Artifact] = None,
    trusted_labels: dsl.Input[dsl.Artifact] = None,
):
    """Score every record among those of its label, from the sums of all shards or, without any, from sums made here.

    Args:
        features: NumPy file (.npy) of float32 or float64, one row a record: what an encoder made.
        labels: NumPy file of whole numbers, one a record.
        run: Id of the pipeline run.
        scores: Parquet file: row, label, one column a detector; the greater the more suspicious. No decision.
        metrics: How many records, and of how many classes.
        states: What sum_features wrote, one file a shard; none, and all is done here.
        trusted: NumPy file of features of records known to be clean; none, and only spectral speaks.
        trusted_labels: NumPy file of their labels.
    """
    from assay.filters.score_features import score_features_step

    document = score_features_step(
        features.path,
        labels.path,
        scores=scores.path,
        states=[state.path for state in states or ()],
        trusted=(trusted.path, trusted_labels.path) if trusted and trusted_labels else None,
        run=run,
    )
    metrics.log_metric("records", document["records"])
    metrics.log_metric("classes", len(document["classes"]))
