"""Train the three models of bench_autoattack.py and write their weights, rounded to bfloat16, beside this file.

    python benchmarks/autoattack/train_models.py FOLDER_OF_FASHION_MNIST

Plain, adversarially trained and TRADES small CNNs on training records 30,000 to 39,999 of Fashion-MNIST. The weights
are committed, because another machine trains other ones, and the peer's committed outcomes are about these.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from assay import catalog
from assay.models.fit import Examples, Optimisation, deterministic, fit
from assay.models.small_cnn import SmallCNN
from assay.threat import ThreatModel

HERE = Path(__file__).parent
RECORDS, SEED = slice(30_000, 40_000), 1
METHODS = {
    "plain": ("cross_entropy", {}),
    "adversarial": ("adversarial", {"steps": 4}),
    "trades": ("trades", {"steps": 4}),
}
EPOCHS = {"plain": 6, "adversarial": 8, "trades": 8}


def read(folder: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 1, 28, 28) in [0, 1] and labels (N,)."""
    with (
        gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as images,
        gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as labels,
    ):
        x = np.frombuffer(images.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
        y = np.frombuffer(labels.read(), np.uint8, offset=8)
    return torch.tensor(x.astype(np.float32) / 255), torch.tensor(y.astype(np.int64))


def main() -> None:
    x, y = (part[RECORDS] for part in read(Path(sys.argv[1]), "train"))
    for name, (method, settings) in METHODS.items():
        with deterministic(1):
            torch.manual_seed(SEED)
            model = SmallCNN(width=8, hidden=32).build((1, 28, 28), 10)
            chosen = Optimisation(epochs=EPOCHS[name], batch_size=64, learning_rate=3e-3, weight_decay=0.0, seed=SEED)
            losses = fit(
                model,
                Examples(x, y, torch.ones(len(y))),
                catalog.build("train", method, settings),
                ThreatModel(epsilon=0.1),
                chosen,
            )
        weights = {key: value.to(torch.bfloat16).contiguous() for key, value in model.state_dict().items()}
        save_file(weights, HERE / f"{name}.safetensors")
        print(name, losses, flush=True)


if __name__ == "__main__":
    main()
