"""How every component is made: one image, and nothing installed when a pod starts."""

import functools
import os

from kfp import dsl

from assay import __version__

IMAGE = os.environ.get("ASSAY_IMAGE", f"ghcr.io/assay/assay-python:{__version__}")

component = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
