"""The KFP interface of the gate."""

from kfp import dsl

from assay.components.authoring import component


@component
def gate(
    evidence: dsl.Input[dsl.Artifact],
    policy: str,
    target: str,
    run: str,
    decision: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> str:
    """Apply a policy to one signed evidence envelope.

    Args:
        evidence: DSSE envelope written by evaluate.
        policy: Canonical JSON of an assay.policy/v1.
        target: Canonical JSON of the registered model and its alias.
        run: Id of the pipeline run.
        decision: DSSE envelope: the decision, one verdict per rule, the evidence id.
        summary: The decision for people, verdict first.

    Returns:
        "promote", "reject" or "inconclusive", for dsl.If and dsl.Else.
    """
    from pathlib import Path

    from assay.config.base import parse_json
    from assay.config.gate import PolicyConfig
    from assay.config.root import Target
    from assay.gate.step import gate

    answer = gate(
        Path(evidence.path),
        parse_json(PolicyConfig, policy, "policy"),
        target=parse_json(Target, target, "target"),
        decision=Path(decision.path),
        summary=Path(summary.path),
        run=run,
    )
    decision.metadata["decision"] = answer["decision"]
    decision.metadata["decision_id"] = answer["decision_id"]
    return answer["decision"]
