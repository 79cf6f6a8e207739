"""The pipelines by name: a file in ``pipelines`` is one."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from assay import catalog
from assay.config.resources import Resources
from assay.errors import UnknownName

__all__ = ["load"]


def load(name: str, resources: Resources) -> Any:
    """The KFP pipeline of a file in ``pipelines``, its tasks placed as the resources say.

    Args:
        name: ``robust_training`` or, as Kubeflow spells it, ``robust-training``.
        resources: placement of all tasks.

    Raises:
        UnknownName: no such pipeline; carries the nearest one.
    """
    known = catalog.names("pipelines")
    module = name.replace("-", "_")
    if module not in known:
        raise UnknownName("pipeline", name, known)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"assay.pipelines.{module}").build(resources)
