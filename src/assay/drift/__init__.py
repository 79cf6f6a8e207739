"""Drift statistics, one file each: a p-value or a distance per feature. Free of torch."""

HELPERS: tuple[str, ...] = ()
