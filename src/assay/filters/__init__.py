"""Poison filters: ``suspicion(features, labels, ...)`` per record, one file each."""

HELPERS: tuple[str, ...] = ("step", "features", "decide")
