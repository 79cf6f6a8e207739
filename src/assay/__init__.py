"""assay: test training data and models, and let only what passes be promoted.

The library below the command line and the pipeline steps. Nothing is imported here, so that a step that needs no
torch does not load it, and a task inside Kubeflow Pipelines meets no decorator on the way to its library call.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
