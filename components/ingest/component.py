"""Is it from who it says? Batches of sources become one dataset."""

from kfp import dsl

from assay.components.authoring import component


@component
def ingest(
    sources: str,
    config: str,
    run: str,
    dataset: dsl.Output[dsl.Dataset],
    calibration: dsl.Output[dsl.Dataset],
    holdout: dsl.Output[dsl.Dataset],
    quarantine: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
):
    """Read batches strictly, bind them in the ledger, and divide the trusted records.

    Args:
        sources: Canonical JSON of a list of sources: name, batch, uri, labels_uri, trust.
        config: Canonical JSON of the section `ingest`; empty for the defaults.
        run: Id of the pipeline run.
        dataset: Records of the sources that are not trusted.
        calibration: Trusted records for sanitize, filter and monitor.
        holdout: Trusted records for evaluate alone.
        quarantine: Records that equal a hold-out record, and rows no schema can hold.
        metrics: Records kept and quarantined.
        summary: Records by source and reason.
    """
    from assay.ingest.step import ingest_json

    document = ingest_json(
        sources,
        config,
        dataset=dataset.path,
        calibration=calibration.path,
        holdout=holdout.path,
        quarantine=quarantine.path,
        summary=summary.path,
        run=run,
    )
    metrics.log_metric("kept", document["kept"])
    metrics.log_metric("quarantined", document["quarantined"])
