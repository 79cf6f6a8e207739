"""Peak memory of `assay filter` on images, of one number of records and of twice as many: what a record more takes.

    python benchmarks/bench_filter_step.py [records]

Images of 28 x 28 of ten classes and four sources, of which one plants a patch in a class; 2,000 trusted ones; one
epoch and 199 permutations, since neither changes what has to be in memory. The input is made by another process; the
peak is what the kernel says of the verb when it ends (``ru_maxrss``, pages of files included). Exits 1 where a record
more takes one and a half times its own features as float32; it took 6.8 times while the step held them in memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_memory import measured

SIDE, TRUSTED, CLASSES, SOURCES = 28, 2000, 10, 4
MOST = 1.5


def make(folder: Path, records: int, seed: int, trusted: bool) -> None:
    """A dataset folder, written ten thousand records at a time."""
    import numpy as np
    import pyarrow as pa

    from assay.data.manifest import BatchShare, History
    from assay.data.stream import writing

    kind, rng = np.random.default_rng(99).integers(0, 160, (CLASSES, 7, 7)), np.random.default_rng(seed)
    kind = kind.repeat(4, 1).repeat(4, 2)
    sources = ["trusted"] if trusted else [f"s{k}" for k in range(SOURCES)]
    shares = tuple(BatchShare(source, "b", sha256="0" * 64, records=0) for source in sources)
    with writing(folder, [f"c{k}" for k in range(CLASSES)]) as writer:
        for source in sources:
            for first in range(0, records // len(sources), 10_000):
                n = min(10_000, records // len(sources) - first)
                y = rng.integers(0, CLASSES, n)
                x = np.clip(kind[y] + rng.normal(0, 40, (n, SIDE, SIDE)) + rng.normal(0, 20, (n, 1, 1)), 0, 255)
                images = x.astype(np.uint8)
                if source == "s1":
                    bad = rng.random(n) < 0.02
                    images[bad, -4:-1, -4:-1], y[bad] = 255, 3
                image = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
                rows = np.arange(first, first + n)
                writer.add(pa.table({"batch": [f"{source}/b"] * n, "row": rows, "image": image, "label": y}))
        writer.finish(History("ingest", "dataset", shares))


def peak(folder: Path, records: int) -> float:
    """Of the verb, in MiB."""
    folder.mkdir()
    for name, count, seed in (("in", records, 1), ("trusted", TRUSTED, 5)):
        subprocess.run([sys.executable, __file__, "--make", str(folder / name), str(count), str(seed)], check=True)
    (folder / "filter.yaml").write_text(json.dumps({"epochs": 1, "permutations": 199}))
    given = ["filter", "in", "--trusted", "trusted", "--config", "filter.yaml", "--page", "page.html"]
    document, seconds, peak_mib = measured([*given, "--out", "kept", "--quarantine", "left"], folder)
    print(
        f"{records} records  {seconds:4.0f} s  peak {peak_mib:5.0f} MiB  {document['quarantined']} quarantined",
        flush=True,
    )
    return peak_mib


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        one, two = (peak(Path(made) / str(count), count) for count in (records, 2 * records))
    each, features = (two - one) * 2**20 / records, 4 * SIDE * SIDE
    print(f"a record more takes {each:.0f} bytes, {each / features:.2f} of its features (bound {MOST})")
    sys.exit(each > MOST * features)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), trusted=Path(sys.argv[2]).name == "trusted")
    else:
        main()
