"""Does the dataset carry poison? Records that do leave for quarantine."""

from kfp import dsl

from assay.components.authoring import component


@component
def filter_poison(
    dataset: dsl.Input[dsl.Dataset],
    calibration: dsl.Input[dsl.Dataset],
    config: str,
    run: str,
    kept: dsl.Output[dsl.Dataset],
    quarantine: dsl.Output[dsl.Artifact],
    scores: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
):
    """Look for poison in every class and divide the dataset.

    Args:
        dataset: Records to examine.
        calibration: Trusted records, which say what clean looks like; may be empty.
        config: Canonical JSON of the section `filter`; empty for the defaults.
        run: Id of the pipeline run.
        kept: Records without sign of poison.
        quarantine: Records that leave, with their findings.
        scores: Parquet file: record id, one column a detector, decision.
        metrics: Records kept and quarantined, classes with poison, what the self-test found.
        page: Score histograms by class, separated clusters, example records, sources by share of suspects.
    """
    from assay.filters.step import filter_poison_json

    document = filter_poison_json(
        dataset.path,
        config,
        kept=kept.path,
        quarantine=quarantine.path,
        scores=scores.path,
        calibration=calibration.path,
        page=page.path,
        run=run,
    )
    metrics.log_metric("kept", document["kept"])
    metrics.log_metric("quarantined", document["quarantined"])
    metrics.log_metric("poisoned_classes", sum(one["status"] == "poisoned" for one in document["classes"]))
    for name, estimate in (document["power"] or {"estimates": {}})["estimates"].items():
        metrics.log_metric(name, estimate["value"])
