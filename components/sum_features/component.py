"""Class sums of some of the records whose features are in a file. One shard of scores that several nodes share."""

from kfp import dsl

from assay.components.authoring import component


@component
def sum_features(
    features: dsl.Input[dsl.Artifact],
    labels: dsl.Input[dsl.Artifact],
    shard: str,
    run: str,
    state: dsl.Output[dsl.Artifact],
):
    """Sum the features of one shard, class by class; a block of them is in memory at a time.

    Args:
        features: NumPy file (.npy) of float32 or float64, one row a record: what an encoder made.
        labels: NumPy file of whole numbers, one a record.
        shard: Which of how many, such as 2/8.
        run: Id of the pipeline run.
        state: Count, mean and scatter of every class, and of which features they are; no score.
    """
    from assay.filters.score_features import sum_features_step

    document = sum_features_step(features.path, labels.path, shard, state=state.path, run=run)
    state.metadata["shard"] = document["shard"]
