"""AutoAttack's standard version on one model, for bench_autoattack.py; runs without assay.

    python benchmarks/autoattack/peer.py WEIGHTS RECORDS.npz EPSILON

Needs torch, safetensors and torchattacks 3.5.1 in an environment of their own. torchattacks' own `AutoAttack` takes 10
steps where the published standard takes 100, so its parts are put together here with the published settings: APGD-CE
and targeted APGD-DLR and FAB with 100 steps, 9 targets, one restart; Square with 5,000 queries. One JSON line.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
import torchattacks
from safetensors.torch import load_file
from torch import nn

BATCH = 256  # AutoAttack's default is 250


def network(weights: dict[str, torch.Tensor]) -> nn.Module:
    """The small CNN of the three models."""
    width, hidden, flat = len(weights["0.bias"]), len(weights["7.bias"]), weights["7.weight"].shape[1]
    body = [
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
    ]
    body += [nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*body, nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model.eval()


def main() -> None:
    torch.set_num_threads(1)
    model, records, epsilon = network(load_file(sys.argv[1])), np.load(sys.argv[2]), float(sys.argv[3])
    x, y = torch.from_numpy(records["x"]), torch.from_numpy(records["y"])
    settings = {"eps": epsilon, "norm": "Linf", "seed": 0, "n_restarts": 1}
    attack = torchattacks.MultiAttack(
        [
            torchattacks.APGD(model, steps=100, loss="ce", **settings),
            torchattacks.APGDT(model, steps=100, n_classes=10, **settings),
            torchattacks.FAB(model, steps=100, multi_targeted=True, n_classes=10, **settings),
            torchattacks.Square(model, n_queries=5000, **settings),
        ]
    )
    started, stands = time.process_time(), []
    for rows in torch.arange(len(y)).split(BATCH):
        with torch.no_grad():
            right = model(x[rows]).argmax(1) == y[rows]
        kept = right.clone()
        x_adv = attack(x[rows][right], y[rows][right])
        outside = (x_adv - x[rows][right]).abs().amax((1, 2, 3)) > epsilon + 1e-6
        assert not outside.any(), f"{int(outside.sum())} points outside the ball"
        with torch.no_grad():
            kept[right] = model(x_adv).argmax(1) == y[rows][right]
        stands += kept.tolist()
    found = {"cpu_s": round(time.process_time() - started, 1), "torch": torch.__version__}
    sys.stdout.write(json.dumps({**found, "stands": [int(kept) for kept in stands]}) + "\n")


if __name__ == "__main__":
    main()
