"""Models: architectures by name, one file each, and the folder format they are kept in.

Needs torch, but for ``spec``, which reads and checks a folder without loading it.
"""

HELPERS: tuple[str, ...] = (
    "assemble",
    "checkpoint",
    "encoder",
    "fit",
    "folder",
    "importing",
    "onnx_graph",
    "record",
    "scikit",
    "spec",
    "state_dict",
)
