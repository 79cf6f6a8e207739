"""How every component is made: one image, and nothing installed when a pod starts.

Inside a task kfp has no decorators; there ``component`` leaves its function as it is, so that importing a component's
module by accident does no harm.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

from kfp import dsl

from assay.config.resources import Resources


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


component = (
    _as_it_is
    if os.environ.get("_KFP_RUNTIME") == "true"
    else functools.partial(dsl.component, base_image=Resources().image, install_kfp_package=False)
)
