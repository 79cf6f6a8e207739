"""Is it well formed and plausible? Records that are not leave for quarantine."""

from kfp import dsl

from assay.components.authoring import component


@component
def sanitize(
    dataset: dsl.Input[dsl.Dataset],
    calibration: dsl.Input[dsl.Dataset],
    config: str,
    run: str,
    kept: dsl.Output[dsl.Dataset],
    quarantine: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
    docs: dsl.Output[dsl.HTML],
):
    """Check expectations on every record and divide the dataset.

    Args:
        dataset: Records to check.
        calibration: Trusted records; copies of them in the dataset are flagged.
        config: Canonical JSON of the section `sanitize`; empty for the defaults.
        run: Id of the pipeline run.
        kept: Records that stay.
        quarantine: Records that leave, with their findings.
        metrics: Records kept and quarantined.
        page: Counts by source and reason, expectations, example records.
        docs: Great Expectations' own page about the suite, to which `page` links.
    """
    from assay.sanitize.step import sanitize_json

    document = sanitize_json(
        dataset.path,
        config,
        kept=kept.path,
        quarantine=quarantine.path,
        calibration=calibration.path,
        page=page.path,
        docs=docs.path,
        run=run,
    )
    metrics.log_metric("kept", document["kept"])
    metrics.log_metric("quarantined", document["quarantined"])
