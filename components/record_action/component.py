"""Write down what was found when nothing is trained."""

from kfp.dsl import Markdown, Output

from assay.components.authoring import component


@component
def record_action(action: str, run: str, summary: Output[Markdown]) -> str:
    """Record an answer that starts no training, and what it asks of people.

    Args:
        action: What monitor or contain said: continue, watch, investigate or undecided.
        run: Id of the pipeline run.
        summary: The action in words, for the page of the run.

    Returns:
        The action.
    """
    from assay.monitor import record_action

    return record_action(action, summary.path, run)
