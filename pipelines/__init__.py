"""The pipelines: one file each; ``build(resources)`` gives the KFP pipeline. Stays lazy, as components does."""

HELPERS = ("decision", "placement")
