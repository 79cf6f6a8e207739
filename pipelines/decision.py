"""How the pipelines that promote end: attack the model, decide on the evidence, then promote it or withhold it."""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from assay.components.evaluate import component as evaluating
from assay.components.evaluate_shard import component as sharing
from assay.components.gate import component as gating
from assay.components.merge_evidence import component as merging
from assay.components.promote import component as promoting
from assay.components.withhold import component as withholding

__all__ = ["decide"]


def decide(
    put: Callable[..., Any],
    *,
    model: Any,
    holdout: Any,
    evaluate: str,
    policy: str,
    target: str,
    run: str,
    shards: int = 1,
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
        shards: how many tasks share the attacks of evaluate.

    Returns:
        The tasks that make the evidence and gate.
    """
    given = {"model": model, "holdout": holdout, "config": evaluate, "run": run}
    if shards > 1:
        evaluated = _shared_out(put, given, target, shards)
    else:
        evaluated = put(evaluating.evaluate(**given, target=target), "evaluate")
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


def _shared_out(put: Callable[..., Any], given: dict[str, Any], target: str, shards: int) -> Any:
    """One task a shard, and the one that makes evidence of their parts."""
    numbered = [f"{number}/{shards}" for number in range(1, shards + 1)]
    with dsl.ParallelFor(items=numbered, name="shards") as shard:
        attacked = put(sharing.evaluate_shard(**given, target=target, shard=shard), "evaluate")
    return put(merging.merge_evidence(**given, parts=dsl.Collected(attacked.outputs["part"])), "evaluate")
