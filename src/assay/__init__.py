"""assay: test training data and models, and let only what passes be promoted.

The library below the command line and the pipeline steps. Nothing is imported here, so that a step that needs no
torch does not load it, and a task inside Kubeflow Pipelines meets no decorator on the way to its library call.
"""

import os

# OpenMP threads that wait for each other sleep instead of spinning: where cores are shared or a pod has a CPU quota,
# spinning makes small networks many times slower. Read once, when torch loads; a value that is set already wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
__all__ = ["__version__"]
