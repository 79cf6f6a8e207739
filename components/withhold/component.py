"""The KFP interface of the branch that does not promote."""

from kfp import dsl

from assay.components.authoring import component


@component
def withhold(decision: dsl.Input[dsl.Artifact], run: str, summary: dsl.Output[dsl.Markdown]) -> str:
    """Record that a model is not promoted, and why; changes nothing.

    Args:
        decision: DSSE envelope written by gate.
        run: Id of the pipeline run.
        summary: The decision for people, verdict first.

    Returns:
        "reject" or "inconclusive".
    """
    from pathlib import Path

    from assay.gate.withhold import withhold

    return withhold(Path(decision.path), summary=Path(summary.path), run=run)["decision"]
