"""Error of a small autoencoder in reconstructing a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from assay.errors import UnfitInput
from assay.sanitize.detectors import Floats, Labels, Scorer
from assay.sanitize.detectors.scaling import Scaling

LIMIT = 10.0  # of a scaled feature; what lies beyond has an error in any case
BATCH = 256

__all__ = ["Autoencoder"]


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """Mean squared error of a network with a narrow middle; the only detector that loads torch.

    Fields:
        width: of the middle layer; the layers around it are four times as wide.
        epochs, learning_rate: of Adam.

    Reference: Hawkins, He, Williams, Baxter. Outlier Detection Using Replicator Neural Networks. DaWaK 2002.
    """

    reason: ClassVar[str] = "reconstruction_error"
    fits: ClassVar[Literal["trusted", "records"]] = "trusted"

    width: int = 4
    epochs: int = 60
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        if self.width < 1 or self.epochs < 1 or not self.learning_rate > 0:
            raise UnfitInput("autoencoder", repr(self), "width >= 1, epochs >= 1, learning_rate > 0")

    def fit(self, x: Floats, y: Labels, *, seed: int) -> Scorer:
        """See `Detector.fit`."""
        import torch
        from torch import nn

        scaling, size, wide = Scaling.of(x), x.shape[1], 4 * self.width

        def tensor(x: Floats) -> torch.Tensor:
            return torch.from_numpy(np.clip(scaling(x), -LIMIT, LIMIT).astype(np.float32))

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = nn.Sequential(
                *(nn.Linear(size, wide), nn.Tanh(), nn.Linear(wide, self.width), nn.Tanh()),
                *(nn.Linear(self.width, wide), nn.Tanh(), nn.Linear(wide, size)),
            )
        generator, z = torch.Generator().manual_seed(seed), tensor(x)
        adam = torch.optim.Adam(model.parameters(), self.learning_rate)
        for _ in range(self.epochs):
            order = torch.randperm(len(z), generator=generator)
            for first in range(0, len(z), BATCH):
                batch = z[order[first : first + BATCH]]
                adam.zero_grad()
                torch.autograd.backward(nn.functional.mse_loss(model(batch), batch))
                adam.step()
        model.eval()

        def score(x: Floats, y: Labels, *, same: bool = False) -> Floats:
            z = tensor(x)
            with torch.no_grad():
                return np.asarray(((model(z) - z) ** 2).mean(dim=1).numpy(), dtype=np.float64)

        return score
