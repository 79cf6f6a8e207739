"""Where an ascent begins: anywhere in the ball, or at a corner of it that is constant over tiles of an image."""

from __future__ import annotations

from typing import Literal

import torch

from assay.attacks.geometry import project, random_start, size
from assay.threat import ThreatModel

Start = Literal["uniform", "tiles"]
TILES = (1, 2, 3, 4, 5, 7)

__all__ = ["Start", "begin", "tiled_start"]


def begin(start: Start, threat: ThreatModel, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A start by name: ``uniform`` is `random_start`, ``tiles`` is `tiled_start`; shape and dtype of x."""
    return (random_start if start == "uniform" else tiled_start)(threat, x, generator)


def tiled_start(threat: ThreatModel, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A perturbation of size epsilon with one random sign for each tile and channel; shape and dtype of x.

    Each image is cut into 1, 2, 3, 4, 5 or 7 tiles along either side, drawn for each; of a table every feature has its
    own sign. A uniform start is noise that a convolution averages away, so that many of them climb the same hill; large
    tiles begin far from each other, as the windows of Square do. What only Square broke, ascents from here break too.

    Reference: after Andriushchenko et al. Square Attack. ECCV 2020, section 3.2. arXiv:1912.00049.
    """
    drawn = torch.randint(0, 2, x.shape, generator=generator, device=generator.device).to(x.device)
    signs = (2 * drawn - 1).to(x)
    if x.ndim == 4:
        pick = torch.randint(0, len(TILES), (len(x),), generator=generator, device=generator.device)
        along = torch.tensor(TILES, device=x.device)[pick.to(x.device)]
        rows, columns = (torch.arange(side, device=x.device) * along[:, None] // side for side in x.shape[2:])
        record = torch.arange(len(x), device=x.device)[:, None, None]
        signs = signs[record, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    length = size(threat, signs).reshape(-1, *(1 for _ in x.shape[1:]))
    return project(threat, x, x + threat.epsilon * signs / length)
