"""What survives the worst case, on some of the records? One shard of an evaluation that several nodes share."""

from kfp import dsl

from assay.components.authoring import component


@component
def evaluate_shard(
    model: dsl.Input[dsl.Model],
    holdout: dsl.Input[dsl.Dataset],
    config: str,
    target: str,
    shard: str,
    run: str,
    part: dsl.Output[dsl.Artifact],
):
    """Attack the model, and the champion beside it, on the blocks of one shard.

    Args:
        model: Model folder.
        holdout: Records the model did not learn from.
        config: Canonical JSON of the section `evaluate`; empty for the defaults.
        target: Canonical JSON of model and alias whose champion is measured too; empty for none.
        shard: Which of how many, such as 2/8.
        run: Id of the pipeline run.
        part: DSSE envelope: what became of every record of the shard; no estimate, and no evidence.
    """
    from assay.evaluate.shard import evaluate_shard_json

    document = evaluate_shard_json(model.path, holdout.path, config, target, shard, part=part.path, run=run)
    part.metadata["shard"] = document["shard"]
