"""The standard ladder beside AutoAttack's standard version: who breaks what, and in how many CPU seconds.

    python benchmarks/bench_autoattack.py [--peer PYTHON] [--data FOLDER] [--write]

Three small CNNs (plain, adversarially trained, TRADES; weights beside autoattack/peer.py), test records 2,000 to 2,511
of Fashion-MNIST, Linf. The ladder was chosen on models of another seed and other training records, and on the first 512
test records: nothing was fitted to what it is accepted on. ``--peer`` names an interpreter that has torch and
torchattacks in an environment of its own; the peer then runs here, else its committed outcomes
(autoattack/outcomes.json) count, with its seconds scaled by how long 40 forward and backward passes take now and took
then. ``--write`` keeps what the peer found. Without Fashion-MNIST nothing is measured, and it says so. One JSON line a
model; exits 1 where AutoAttack breaks on balance more than one record that the ladder does not, or the ladder takes
more than a third of its time.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

import assay
from assay.config.evaluate import PRESETS
from assay.evaluate.blocks import block_count, block_rows
from assay.evaluate.fast import fast
from assay.evaluate.ladder import climb, ladder
from assay.evaluate.outcomes import STANDS
from assay.evaluate.strength import differentiable
from assay.models.small_cnn import SmallCNN
from assay.threat import ThreatModel

HERE = Path(__file__).parent / "autoattack"
EPSILON = {"plain": 0.02, "adversarial": 0.1, "trades": 0.1}
RECORDS, EXCESS_BAR, TIME_BAR = slice(2000, 2512), 1, 1 / 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", default="")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/fashion_mnist")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if not given.data.is_dir():
        sys.stdout.write(json.dumps({"skipped": f"no Fashion-MNIST in {given.data}"}) + "\n")
        return 0
    torch.set_num_threads(1)
    x, y = records(given.data)
    known = json.loads((HERE / "outcomes.json").read_text()) if (HERE / "outcomes.json").exists() else {}
    fails = 0
    for name, epsilon in EPSILON.items():
        model = load(name)
        unit = passes(model, x, y)
        if given.peer:
            known[name] = {**peer(given.peer, name, x, y, epsilon), "unit_cpu_s": unit}
        theirs = known[name]
        assert theirs["weights_sha256"] == digest(name), "the committed outcomes are of other weights"
        result = compare(model, x, y, ThreatModel(epsilon=epsilon), theirs, unit)
        sys.stdout.write(json.dumps({"assay": assay.__version__, "model": name, "epsilon": epsilon, **result}) + "\n")
        sys.stdout.flush()
        fails += result["excess"] > EXCESS_BAR or result["ratio"] > TIME_BAR
    if given.write:
        (HERE / "outcomes.json").write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return int(fails > 0)


def compare(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, theirs: dict[str, Any], unit: float
) -> dict[str, Any]:
    """The ladder on every block, and who stands after it and after the peer."""
    rungs = ladder(PRESETS["standard"])
    started, by = time.process_time(), []
    model = differentiable(fast(model))
    for block in range(block_count(len(y))):
        rows = block_rows(block, len(y))
        by.append(climb(model, x[rows], y[rows], threat, rungs, seed=0, block=block).by)
    seconds, state = time.process_time() - started, torch.cat(by)
    ours, other = (state == STANDS).numpy(), np.array([letter == "1" for letter in theirs["stands"]])
    peer_s = theirs["cpu_s"] * unit / theirs["unit_cpu_s"]
    return {
        "records": len(y),
        "stand": int(ours.sum()),
        "stand_autoattack": int(other.sum()),
        "only_autoattack_breaks": int((ours & ~other).sum()),
        "only_ladder_breaks": int((other & ~ours).sum()),
        "excess": int((ours & ~other).sum()) - int((other & ~ours).sum()),
        "excess_bar": EXCESS_BAR,
        "broken_by": {rung.name: int((state == number).sum()) for number, rung in enumerate(rungs, 1)},
        "cpu_s": round(seconds, 1),
        "cpu_s_autoattack": round(peer_s, 1),
        "ratio": round(seconds / peer_s, 3),
        "ratio_bar": round(TIME_BAR, 3),
    }


def peer(python: str, name: str, x: torch.Tensor, y: torch.Tensor, epsilon: float) -> dict[str, Any]:
    """AutoAttack in its own environment."""
    with TemporaryDirectory() as folder:
        np.savez(f"{folder}/records.npz", x=x.numpy(), y=y.numpy())
        command = [
            python,
            str(HERE / "peer.py"),
            str(HERE / f"{name}.safetensors"),
            f"{folder}/records.npz",
            str(epsilon),
        ]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    stands = "".join(map(str, found["stands"]))
    return {"cpu_s": found["cpu_s"], "epsilon": epsilon, "weights_sha256": digest(name), "stands": stands}


def passes(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """CPU seconds of 40 forward and backward passes of one block: the least of three."""
    x, y, seconds = x[:256], y[:256], []
    for _ in range(3):
        started = time.process_time()
        for _ in range(40):
            at = x.clone().requires_grad_()
            torch.autograd.grad(functional.cross_entropy(model(at), y, reduction="sum"), at)
        seconds.append(time.process_time() - started)
    return round(min(seconds), 3)


def load(name: str) -> nn.Module:
    """One of the three models."""
    model = SmallCNN(width=8, hidden=32).build((1, 28, 28), 10)
    model.load_state_dict({key: value.float() for key, value in load_file(HERE / f"{name}.safetensors").items()})
    return model.eval().requires_grad_(False)


def digest(name: str) -> str:
    return hashlib.sha256((HERE / f"{name}.safetensors").read_bytes()).hexdigest()


def records(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The test records, in [0, 1]."""
    with (
        gzip.open(folder / "t10k-images-idx3-ubyte.gz") as images,
        gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as labels,
    ):
        x = np.frombuffer(images.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)[RECORDS]
        y = np.frombuffer(labels.read(), np.uint8, offset=8)[RECORDS]
    return torch.tensor(x.astype(np.float32) / 255), torch.tensor(y.astype(np.int64))


if __name__ == "__main__":
    sys.exit(main())
