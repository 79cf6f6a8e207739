"""Randomized smoothing: the class that a network says most often of a record in Gaussian noise, and how far it stays.

Reference: Cohen, Rosenfeld, Kolter. Certified Adversarial Robustness via Randomized Smoothing. ICML 2019, algorithm
    CERTIFY. arXiv:1902.02918.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import betaincinv, ndtri
from torch import nn

from assay.threads import leave_if_asked

ABSTAINS = -1
CHUNK_RECORDS = 32
"""Copies a pass: the activations of a convolution fit into a core's cache, where those of 128 do not."""

__all__ = ["ABSTAINS", "CHUNK_RECORDS", "Smoothed", "radius_of", "smooth"]


@dataclass(frozen=True)
class Smoothed:
    """What the smoothed classifier says of each record.

    Fields:
        predicted: (N,) int64; `ABSTAINS` where no class is sure to be the most frequent.
        radius: (N,) float64: within this distance in l2 the answer does not change; 0 where it abstains.
        samples: noisy copies that were looked at.
    """

    predicted: npt.NDArray[np.int64]
    radius: npt.NDArray[np.float64]
    samples: int


def smooth(
    model: nn.Module,
    x: torch.Tensor,
    *,
    sigma: float,
    selection: int,
    samples: int,
    alpha: float,
    generator: torch.Generator,
    chunk: int = CHUNK_RECORDS,
) -> Smoothed:
    """CERTIFY, record by record: the likely class from a few noisy copies, a lower bound of its share from many others.

    A record whose likely class was not the answer to more than half of the few copies abstains without the many: it is
    always allowed to abstain. Copies are drawn and answered in chunks, so that memory does not grow with their number.
    An answer that is not finite counts for no class.

    Args:
        model: maps (N, ...) to logits (N, K); in eval mode.
        x: (N, ...) float32.
        sigma: of the noise, in units of x; noisy copies are not cut to the box.
        selection: copies that choose the class.
        samples: copies that bound its share.
        alpha: chance that the radius of one record is too large.
        generator: of the noise.
        chunk: copies a pass.
    """
    predicted, radius = np.full(len(x), ABSTAINS, dtype=np.int64), np.zeros(len(x))
    used = 0
    for at, record in enumerate(x):
        few = _counts(model, record, sigma, selection, generator, chunk)
        used += selection
        likely = int(few.argmax())
        if 2 * int(few[likely]) <= selection:
            continue
        hits = int(_counts(model, record, sigma, samples, generator, chunk)[likely])
        used += samples
        found = radius_of(hits, samples, sigma, alpha)
        if found > 0:
            predicted[at], radius[at] = likely, found
    return Smoothed(predicted, radius, used)


def radius_of(hits: int, samples: int, sigma: float, alpha: float) -> float:
    """Sigma * Phi^-1(p), with p the lower Clopper-Pearson end (one-sided, 1 - alpha) of the share; 0 for p <= 1/2.

    At most sigma * Phi^-1(alpha ** (1 / samples)), when every copy is a hit.
    """
    share = float(betaincinv(hits, samples - hits + 1, alpha)) if hits else 0.0
    return sigma * float(ndtri(share)) if share > 0.5 else 0.0


def _counts(
    model: nn.Module, record: torch.Tensor, sigma: float, samples: int, generator: torch.Generator, chunk: int
) -> torch.Tensor:
    """(K,) how often each class is the answer."""
    counts: torch.Tensor | None = None
    with torch.no_grad():
        for start in range(0, samples, chunk):
            leave_if_asked()
            shape = (min(chunk, samples - start), *record.shape)
            noise = torch.empty(shape, dtype=record.dtype).normal_(0.0, sigma, generator=generator)
            logits = model(noise.to(record.device).add_(record))
            said = logits.argmax(1)[logits.isfinite().all(1)]
            found = torch.bincount(said.cpu(), minlength=logits.shape[1])
            counts = found if counts is None else counts + found
    assert counts is not None
    return counts
