"""A pipeline of one long step, for tests that interrupt it; run as a script: FOLDER, and maybe ``deaf``."""

import signal
import sys
from pathlib import Path

from kfp import dsl

from assay.components.authoring import component
from assay.runner import processes
from assay.runner.run import run_pipeline


@component
def linger(deaf: bool, out: dsl.Output[dsl.Artifact]):
    import os
    import signal
    import subprocess
    import tempfile
    import time
    from pathlib import Path

    from assay.data.files import whole_folder

    if deaf:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with whole_folder(out.path) as folder:
        (folder / "half").write_text("half")
        tempfile.mkdtemp()
        child = subprocess.Popen(["sleep", "60"])
        place = Path(out.path).parent
        place.joinpath("pids").write_text(f"{os.getpid()} {child.pid}")
        try:
            time.sleep(60)
        finally:
            place.joinpath("tidied").touch()


@dsl.pipeline
def lingering(deaf: bool):
    linger(deaf=deaf)


if __name__ == "__main__":
    # As on a terminal, also where the tests themselves run in the background, with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    processes.GRACE_S = 0.5 if "deaf" in sys.argv else 60.0
    run_pipeline(lingering, {"deaf": "deaf" in sys.argv}, folder=Path(sys.argv[1]))
