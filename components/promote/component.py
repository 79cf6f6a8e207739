"""The KFP interface of the promotion."""

from kfp import dsl

from assay.components.authoring import component


@component
def promote(
    decision: dsl.Input[dsl.Artifact],
    evidence: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    target: str,
    run: str,
    promotion: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> str:
    """Register a model and move its alias, only from a signed decision whose digests match.

    Args:
        decision: DSSE envelope written by gate.
        evidence: DSSE envelope the decision rests on.
        model: The model folder that was measured.
        target: Canonical JSON of the registered model and its alias.
        run: Id of the pipeline run.
        promotion: DSSE envelope: the promotion as the ledger holds it.
        summary: What was promoted, for people.

    Returns:
        The version in the model registry.
    """
    from pathlib import Path

    from assay.config.base import parse_json
    from assay.config.root import Target
    from assay.promote import promote

    answer = promote(
        Path(decision.path),
        Path(evidence.path),
        Path(model.path),
        target=parse_json(Target, target, "target"),
        promotion=Path(promotion.path),
        summary=Path(summary.path),
        run=run,
    )
    promotion.metadata["promotion"] = answer["promotion"]
    promotion.metadata["version"] = answer["version"]
    return answer["version"]
