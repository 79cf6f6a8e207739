"""Whether an image was resampled: learned from the images themselves and from copies whose parts were moved a little.

To move parts of an image by less than a pixel is to average neighbours, whatever the image shows. What that leaves can
be learned without a single suspect: a small network tells the images from copies of themselves, each warped by a smooth
field of its own. Its answer says of every image how much it looks like such a copy. Nothing it is made from knows an
origin or a label, so that under the hypothesis of `assay.filters.decide` its scores are exchangeable.

What interpolation leaves is local: the network sees five by five places and their neighbours, and the mean and the
largest of its local answers over the image, the image's marks, are weighed. One warp leaves other marks than another,
so that records suspected of one can be told from all others by them. Which way an image faces plays no part: the
network learns from mirrored images and answers for all four ways at once. Large images teach it by their parts.

Reference: Popescu and Farid. Exposing Digital Forgeries by Detecting Traces of Resampling. IEEE Transactions on Signal
    Processing 53 (2005): resampled images are found by what interpolation leaves in them. They estimate the
    interpolation image by image; here a network learns from copies.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from assay.filters import Floats
from assay.filters._proxy import Scaled, descent, pieces, place_of, seeded
from assay.progress import track

BATCH, PASSES, LEAST_STEPS, MOST_STEPS, RATE = 32, 10, 100, 2400, 6e-3
LEAST_SIDE, PART = 3, 32
FACING: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))
COARSEST, FINEST, FARTHEST = 2, 6, 2.0
"""Of the random fields: points a side, and pixels that a point is moved at most, in each direction."""

__all__ = ["fields", "moved", "resampling"]


class Interpolation(nn.Module):
    """Log-odds (N,) that images (N, C, H, W) were resampled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = nn.Conv2d(channels, 24, 5, stride=2, padding=2), nn.Conv2d(24, 32, 3, padding=1)
        self.local = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        self.weigh = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        odds: Tensor = self.weigh(self.marks(x))
        return odds[:, 0]

    def marks(self, x: Tensor) -> Tensor:
        """What is weighed (N, 64): the mean and the largest of 32 local answers."""
        found = self.local(x)
        return torch.cat([found.mean(dim=(2, 3)), found.amax(dim=(2, 3))], dim=1)


def resampling(
    x: Tensor | Scaled, seed: int, device: torch.device | None = None
) -> tuple[Floats, npt.NDArray[np.float32]]:
    """Log-odds (N, 1) that each image is a warped copy, of an image and a copy equally likely, and its marks (N, 64).

    Args:
        x: images (N, C, H, W), in spreads: records and trusted records in one, so that none is measured by the others.
        seed: of the network, and of which images are copied and how they are warped.
        device: where the network is fitted; None for the CPU.

    Returns:
        No columns (N, 0) for images of fewer than three pixels a side.
    """
    if min(x.shape[2:]) < LEAST_SIDE:
        return np.empty((len(x), 0)), np.empty((len(x), 0), np.float32)
    model = seeded(lambda: Interpolation(x.shape[1]), seed, device)
    _learn(model, x, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        marks = torch.cat([_facing_all_ways(model.marks, part) for part in pieces(x, device)])
        return model.weigh(marks).double().cpu().numpy(), marks.cpu().numpy()


def _learn(model: Interpolation, x: Tensor | Scaled, generator: Generator) -> None:
    steps = min(MOST_STEPS, max(LEAST_STEPS, PASSES * len(x) // BATCH))
    step, device = descent(model, RATE, steps), place_of(model)
    copied = torch.arange(2 * BATCH, device=device) >= BATCH
    for _ in track(range(steps), "resampling", steps):
        images = _part(x[torch.randint(len(x), (BATCH,), generator=generator).numpy()].to(device), generator)
        images = images.flip(FACING[int(torch.randint(len(FACING), (), generator=generator))])
        height, width = images.shape[2:]
        copies = moved(images, fields(BATCH, height, width, generator).to(device))
        said = model(torch.cat([images, copies]))
        step(functional.binary_cross_entropy_with_logits(said, copied.float()))


def _facing_all_ways(of: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean of a function over the images and their mirrorings: which way they face, no resampling knows."""
    return torch.stack([of(images.flip(facing)) for facing in FACING]).mean(dim=0)


def _part(images: Tensor, generator: Generator) -> Tensor:
    """One part of all of the images, of at most 32 by 32 pixels."""
    sides = [min(PART, side) for side in images.shape[2:]]
    spare = zip(images.shape[2:], sides, strict=True)
    top, left = (int(torch.randint(side - own + 1, (), generator=generator)) for side, own in spare)
    return images[:, :, top : top + sides[0], left : left + sides[1]]


def fields(count: int, height: int, width: int, generator: Generator) -> Tensor:
    """Smooth random fields (count, 2, H, W) of displacements, pixels down and to the right.

    Each is drawn on a coarse grid, with a drift of the whole, and interpolated by cubic splines.
    """
    points = int(torch.randint(COARSEST, FINEST + 1, (), generator=generator))
    coarse = _uniform((count, 2, points, points), generator) + _uniform((count, 2, 1, 1), generator) / 2
    coarse *= FARTHEST * torch.rand((count, 1, 1, 1), generator=generator)
    return functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)


def moved(images: Tensor, field: Tensor) -> Tensor:
    """Images (N, C, H, W), each read from places moved by its field (N, 2, H, W), linearly, its edge carried on."""
    height, width = images.shape[2:]
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    down, across = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack([(across + field[:, 1]) / (width - 1), (down + field[:, 0]) / (height - 1)], dim=-1)
    return functional.grid_sample(images, 2 * places - 1, mode="bilinear", padding_mode="border", align_corners=True)


def _uniform(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return 2 * torch.rand(shape, generator=generator) - 1
