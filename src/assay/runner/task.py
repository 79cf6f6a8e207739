"""The process of one task: KFP's executor, bound to the life of the process that runs the pipeline.

``python -m assay.runner.task`` takes the arguments of ``python -m kfp.dsl.executor_main``. It dies with its parent, so
that a run killed outright leaves no step behind that goes on writing, and Ctrl-C reaches it even where its parent was
started with that signal ignored.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PARENT = "ASSAY_RUNNER_PID"
EXECUTOR = "kfp.dsl.executor_main"
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)

__all__ = ["EXECUTOR", "PARENT", "bind", "execute", "main"]


def main() -> None:
    """Bind this process to its parent, then become the executor."""
    execute(int(os.environ.pop(PARENT)))


def execute(parent: int) -> None:
    """Run KFP's executor on ``sys.argv``, for as long as ``parent`` lives."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    bind(parent)
    runpy.run_module(EXECUTOR, run_name="__main__", alter_sys=True)


def bind(parent: int) -> None:
    """Have this process end with its parent, now if it is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that runs the pipeline is gone")


if __name__ == "__main__":
    main()
