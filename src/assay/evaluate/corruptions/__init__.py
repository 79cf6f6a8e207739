"""Fifteen common corruptions at five severities, for images of any size and number of channels; numpy and scipy only.

After Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations. ICLR
2019. arXiv:1903.12261. Lengths are in parts of the image's shorter side, so that 8x8 and 224x224 pixels are corrupted
alike; frost is drawn, not cut from photographs; JPEG quantises without subsampling colour. So accuracies compare with
each other, not with those published for ImageNet-C.
"""

from __future__ import annotations

import numpy as np

from assay.errors import UnfitInput, UnknownName
from assay.evaluate.corruptions import blur, digital, noise, weather
from assay.evaluate.corruptions.field import Corruption, Images

CORRUPTIONS: dict[str, Corruption] = {**noise.KINDS, **blur.KINDS, **weather.KINDS, **digital.KINDS}
SEVERITIES = (1, 2, 3, 4, 5)

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt"]


def corrupt(x: Images, name: str, severity: int, seed: int) -> Images:
    """Corrupted copies of images.

    Args:
        x: (N, C, H, W) in [0, 1].
        name: of the corruption.
        severity: 1 to 5.
        seed: of what is drawn, the same for every severity: what grows is its strength alone.

    Returns:
        Shape of x, float64, in [0, 1].

    Raises:
        UnknownName: no such corruption. UnfitInput: no images, or another severity.
    """
    if name not in CORRUPTIONS:
        raise UnknownName("corruption", name, CORRUPTIONS)
    if x.ndim != 4 or severity not in SEVERITIES:
        raise UnfitInput("corruption", f"shape {x.shape}, severity {severity}", "(N, C, H, W), severity 1 to 5")
    made = CORRUPTIONS[name](np.asarray(x, dtype=np.float64), severity - 1, np.random.default_rng(seed))
    return np.clip(made, 0.0, 1.0)
