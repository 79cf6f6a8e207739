"""What survives the worst case? One model, measured on records it did not learn from."""

from kfp import dsl

from assay.components.authoring import component


@component
def evaluate(
    model: dsl.Input[dsl.Model],
    holdout: dsl.Input[dsl.Dataset],
    config: str,
    target: str,
    run: str,
    evidence: dsl.Output[dsl.Artifact],
    outcomes: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
):
    """Measure clean and robust accuracy, backdoor success, and the champion on the same records.

    Args:
        model: Model folder.
        holdout: Records the model did not learn from.
        config: Canonical JSON of the section `evaluate`; empty for the defaults.
        target: Canonical JSON of model and alias whose champion is measured too; empty for none.
        run: Id of the pipeline run.
        evidence: DSSE envelope: every estimate with its interval, how it was measured, and whether that is sound.
        outcomes: What happened to each record under attack, as Parquet.
        metrics: Point estimates.
        page: Estimates, robustness over the radius, classes, worst examples.
    """
    from assay.evaluate.step import evaluate_json

    document = evaluate_json(
        model.path,
        holdout.path,
        config,
        target,
        evidence=evidence.path,
        outcomes=outcomes.path,
        page=page.path,
        run=run,
    )
    for name, estimate in document["estimates"].items():
        metrics.log_metric(name, estimate["value"])
    evidence.metadata["evidence_id"] = document["evidence_id"]
