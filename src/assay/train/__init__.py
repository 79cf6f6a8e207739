"""Training methods, one file each; ``step`` is the pipeline step. Needs torch."""

HELPERS: tuple[str, ...] = ("inputs", "step")
