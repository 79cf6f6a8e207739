"""Put an incident on record, and say whether something that serves learned from it."""

from kfp.dsl import Artifact, Markdown, Output

from assay.components.authoring import component


@component
def contain(ref: str, reason: str, run: str, findings: Output[Artifact], summary: Output[Markdown]) -> str:
    """Find what a poisoned record, batch, source or model reached, sign an incident and mark the affected versions.

    Args:
        ref: What the incident is about, such as batch:vendor-c/2026-10.
        reason: Why, for the incident.
        run: Id of the pipeline run.
        findings: What is affected, what serves, and where to go back to, as JSON.
        summary: The same for people.

    Returns:
        "retrain" when an alias serves what learned from it, "investigate" when only models did that serve nowhere,
        else "continue".
    """
    from assay.contain import contain_paths

    return contain_paths(ref, reason, findings.path, summary.path, run)
