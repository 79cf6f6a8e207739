"""The pipeline steps: a KFP interface each, one library call below it.

Stays lazy: inside a task kfp has no decorators, so nothing here may import a component. Import one where a pipeline is
built: ``from assay.components.gate.component import gate``.
"""

from typing import get_args

from assay.config.resources import Step

SHARED_OUT = ("evaluate_shard", "merge_evidence", "sum_features")
"""The two halves of evaluate where shards share it, and the first of score_features; placed as those are."""

STEPS: tuple[str, ...] = (*get_args(Step), *SHARED_OUT)
