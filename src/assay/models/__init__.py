"""Models: architectures by name, one file each, and the folder format they are kept in. Needs torch."""

HELPERS: tuple[str, ...] = ("folder", "fit")
