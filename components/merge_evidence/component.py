"""What survives the worst case? All shards of one evaluation become the evidence that one machine would have made."""

from typing import List  # noqa: UP035  # KFP knows no other list of artifacts

from kfp import dsl

from assay.components.authoring import component


@component
def merge_evidence(
    parts: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    model: dsl.Input[dsl.Model],
    holdout: dsl.Input[dsl.Dataset],
    config: str,
    run: str,
    evidence: dsl.Output[dsl.Artifact],
    outcomes: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
):
    """Check that the parts are all of one evaluation, measure what belongs to no single block, and sign the evidence.

    Args:
        parts: What evaluate_shard wrote, one envelope a shard.
        model: Model folder, the one that the shards attacked.
        holdout: Records, those that the shards attacked.
        config: Canonical JSON of the section `evaluate`: where the sets of other records lie; empty for none.
        run: Id of the pipeline run.
        evidence: DSSE envelope: every estimate with its interval, how it was measured, and whether that is sound.
        outcomes: What happened to each record under attack, as Parquet.
        metrics: Point estimates.
        page: Estimates, robustness over the radius, classes, worst examples.
    """
    from assay.evaluate.merge import merge_evidence_json

    document = merge_evidence_json(
        [part.path for part in parts],
        model.path,
        holdout.path,
        sets=config,
        run=run,
        evidence=evidence.path,
        outcomes=outcomes.path,
        page=page.path,
    )
    for name, estimate in document["estimates"].items():
        metrics.log_metric(name, estimate["value"])
    evidence.metadata["evidence_id"] = document["evidence_id"]
