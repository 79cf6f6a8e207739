"""The pipeline steps: a KFP interface each, one library call below it.

Stays lazy: inside a task kfp has no decorators, so nothing here may import a component. Import one where a pipeline is
built: ``from assay.components.gate.component import gate``.
"""

STEPS = (
    "ingest",
    "sanitize",
    "filter_poison",
    "train",
    "evaluate",
    "gate",
    "report",
    "promote",
    "withhold",
    "monitor",
    "record_action",
    "import_model",
)
