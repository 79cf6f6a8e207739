"""How the pipelines that promote end: attack the model, decide on the evidence, then promote it or withhold it."""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from assay.components.evaluate import component as evaluating
from assay.components.gate import component as gating
from assay.components.promote import component as promoting
from assay.components.withhold import component as withholding

__all__ = ["decide"]


def decide(
    put: Callable[..., Any], *, model: Any, holdout: Any, evaluate: str, policy: str, target: str, run: str
) -> tuple[Any, Any]:
    """Add evaluate, gate, and the branch on the decision to the pipeline that is being built.

    Args:
        put: places a task for the step it is given.
        model: output of an earlier task, a model folder.
        holdout: output of ingest, what the model is measured on.
        evaluate: parameter of the pipeline, as are the next three.
        policy: what must hold.
        target: where a promoted model goes.
        run: id of the pipeline run.

    Returns:
        The tasks evaluate and gate.
    """
    evaluated = put(
        evaluating.evaluate(model=model, holdout=holdout, config=evaluate, target=target, run=run), "evaluate"
    )
    evidence = evaluated.outputs["evidence"]
    gated = put(gating.gate(evidence=evidence, policy=policy, target=target, run=run), "gate")
    decision = gated.outputs["decision"]
    with dsl.If(gated.outputs["Output"] == "promote", name="promoted"):
        put(
            promoting.promote(decision=decision, evidence=evidence, model=model, target=target, run=run),
            "promote",
        )
    with dsl.Else(name="withheld"):
        put(withholding.withhold(decision=decision, run=run), "withhold")
    return evaluated, gated
