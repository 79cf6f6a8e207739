"""Compare a window of production with a pinned reference."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from assay.components.authoring import component


@component
def monitor(
    reference: Input[Dataset],
    current: Input[Dataset],
    config: str,
    run: str,
    findings: Output[Artifact],
    metrics: Output[Metrics],
    page: Output[HTML],
) -> str:
    """Decide whether the world has changed, with a stated rate of false alarms.

    Args:
        reference: Dataset that counts as normal: what the model in use was trained on, or the calibration records.
        current: Dataset of the production window, with the same columns and classes.
        config: Settings as canonical JSON, such as {"false_alarm_rate": 0.01}; empty for the defaults.
        run: Id of the pipeline run.
        findings: Every statistic of every feature, as JSON.
        metrics: Number of findings by what they call for, and the largest psi.
        page: The findings with the distributions of the features that moved most.

    Returns:
        "continue", "watch", "investigate", "retrain" or "undecided", for dsl.If / dsl.Else in the pipeline.
    """
    from assay.monitor import monitor_paths

    document, numbers = monitor_paths(reference.path, current.path, config, findings.path, page.path, run)
    for name, value in numbers.items():
        metrics.log_metric(name, value)
    return document["action"]
