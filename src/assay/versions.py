"""What made a result: assay's code, the container image, the machine kind. Torch is asked only where it is loaded."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

from assay import canonical

NUMERIC = ("numpy", "scipy", "pyarrow", "scikit-learn")

__all__ = ["code_digest", "image", "machine"]


@cache
def code_digest() -> str:
    """SHA-256 over the names and bytes of assay's own Python files."""
    root = Path(__file__).parent
    files = {path.relative_to(root).as_posix(): canonical.file_digest(path) for path in root.rglob("*.py")}
    return canonical.digest(files)


def image() -> str:
    """The container image this runs in (``ASSAY_IMAGE``, set by the image itself), or an empty string."""
    return os.environ.get("ASSAY_IMAGE", "")


def machine() -> dict[str, str]:
    """The machine kind on which equal inputs and seeds give equal bytes: CPU, Python, libraries, torch build."""
    kind = {
        "processor": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in NUMERIC},
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        kind["torch"] = str(torch.__version__)
        kind["cpu_capability"] = str(torch.backends.cpu.get_cpu_capability())
        kind["threads"] = str(torch.get_num_threads())
    return kind
