"""Scoring 1,000,000 x 512 out of core: how much memory, and are the ranks those of the members in memory?

    python benchmarks/bench_filter_memory.py [--records 1000000] [--width 512] [--keep FOLDER]

Writes float32 features of ten classes to a file (2 GB), block by block; scores them in a process of its own, whose peak
memory counts; then scores the same features by the members in memory, class by class, and compares the ranks within
every class. Two shards of whole blocks, joined, have to give the same bits as one. One JSON line; exits 1 where the
peak exceeds 1 GiB, a rank correlation is 0.999 or less, or a bit differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from assay.filters import streaming
from assay.filters.spectral import Spectral
from assay.filters.streaming import BLOCK, Moments, block_count, moments
from assay.filters.trusted_mahalanobis import TrustedMahalanobis, within

CLASSES, TRUSTED, LIMIT_MB, LEAST_CORRELATION = 10, 1000, 1024, 0.999


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--score", type=Path)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    if given.score:
        return score(given.score, given.records)
    with TemporaryDirectory(dir=given.keep) as folder:
        return compare(Path(folder), given.records, given.width)


def compare(folder: Path, records: int, width: int) -> int:
    write(folder, records, width)
    command = [sys.executable, __file__, "--score", str(folder), "--records", str(records)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    least = inside(folder, records)
    fits = said["peak_mb"] <= LIMIT_MB and said["same_bits"] and min(least.values()) > LEAST_CORRELATION
    say(
        {
            "records": records,
            "width": width,
            **said,
            "least_rank_correlation": least,
            "limit_mb": LIMIT_MB,
            "fits": fits,
        }
    )
    return int(not fits)


def scene(width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((CLASSES, width)), rng.standard_normal((24, width)) / 4


def drawn(count: int, seed: int, centres: np.ndarray, mixing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rectified low-rank features with noise, as a penultimate layer gives them, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    latent = rng.standard_normal((count, 24), dtype=np.float32) * np.linspace(1, 0.2, 24, dtype=np.float32)
    noise = 0.5 * rng.standard_normal((count, centres.shape[1]), dtype=np.float32)
    return np.maximum(centres[labels] + latent @ mixing + noise, 0).astype(np.float32), labels


def write(folder: Path, records: int, width: int) -> None:
    centres, mixing = scene(width)
    file = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (records, width))
    labels = np.empty(records, np.int64)
    for start in range(0, records, 50_000):
        rows = slice(start, min(start + 50_000, records))
        file[rows], labels[rows] = drawn(rows.stop - start, start + 1, centres, mixing)
    file.flush()
    np.save(folder / "y.npy", labels)
    trusted, known = drawn(TRUSTED, 0, centres, mixing)
    np.savez(folder / "trusted.npz", x=trusted.astype(np.float64), y=known)


def score(folder: Path, records: int) -> int:
    """Both members out of core; what it took."""
    file, labels, trusted = folder / "x.npy", np.load(folder / "y.npy"), np.load(folder / "trusted.npz")
    spent = {}
    with threadpool_limits(1):
        start = time.process_time()
        found = moments(file, labels)
        spent["moments_s"] = time.process_time() - start
        start = time.process_time()
        np.save(folder / "spectral.npy", streaming.spectral(file, labels, found))
        spent["spectral_s"] = time.process_time() - start
        start = time.process_time()
        scores = streaming.trusted_mahalanobis(file, labels, found, trusted["x"], trusted["y"])
        np.save(folder / "trusted_mahalanobis.npy", scores)
        spent["trusted_mahalanobis_s"] = time.process_time() - start
        peak = peak_mb()
        third, every = block_count(records) // 3, block_count(records)
        parts = [moments(file, labels, blocks) for blocks in (range(third, every), range(third))]
        one, two = found.total(), Moments.joined(parts).total()
    same = all(one[k].scatter.tobytes() == two[k].scatter.tobytes() for k in range(CLASSES))
    say({"peak_mb": peak, "same_bits": same, "block": BLOCK, **{key: round(it, 1) for key, it in spent.items()}})
    return 0


def peak_mb() -> int:
    """Most memory this program held since it began; getrusage would count what its parent held too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def inside(folder: Path, records: int) -> dict[str, float]:
    """Least rank correlation over the classes, with the members in memory, one class at a time (200 MB each)."""
    labels, trusted = np.load(folder / "y.npy"), np.load(folder / "trusted.npz")
    file = np.load(folder / "x.npy", mmap_mode="r")
    out = {name: np.load(folder / f"{name}.npy") for name in ("spectral", "trusted_mahalanobis")}
    least = dict.fromkeys(out, 1.0)
    pooled = within(trusted["x"], trusted["y"])
    with threadpool_limits(1):
        for label in range(CLASSES):
            rows = np.flatnonzero(labels == label)
            x = np.asarray(file[rows], np.float64)
            centred = x - x.mean(axis=0)
            own = trusted["x"][trusted["y"] == label]
            frame = TrustedMahalanobis().frame(centred.T @ centred, own, pooled, label)
            said = {"spectral": Spectral().suspicion(x, labels[rows]), "trusted_mahalanobis": frame.distances(x)}
            for name, values in said.items():
                least[name] = min(least[name], float(spearmanr(values, out[name][rows]).statistic))
    return {name: round(value, 9) for name, value in least.items()}


def say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
