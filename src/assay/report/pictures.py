"""Example images as PNG data URIs."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image

from assay.errors import UnfitInput
from assay.report.text import plain

MAX_SIDE = 96

__all__ = ["data_uri", "images"]


def images(pictures: npt.NDArray[Any], titles: Sequence[str], *, limit: int = 24, together: int = 1) -> Markup:
    """Pictures side by side, each with its title; at most ``limit`` of them.

    Args:
        pictures: (N, H, W) grey or (N, H, W, 3) colour; uint8, or floating point in [0, 1] (values outside are cut, NaN
            is black).
        titles: N texts, such as record ids.
        limit: how many at most.
        together: so many in a row belong together, and no line ends between them.
    """
    entries = [
        Markup('<li><img src="{}" alt="{}"><span>{}</span></li>').format(data_uri(picture), plain(title), plain(title))
        for picture, title in zip(pictures[:limit], titles[:limit], strict=True)
    ]
    groups = [Markup("").join(entries[first : first + together]) for first in range(0, len(entries), together)]
    if together > 1:
        groups = [Markup('<li class="group">{}</li>').format(_list(group)) for group in groups]
    return _list(Markup("").join(groups))


def _list(entries: Markup) -> Markup:
    return Markup('<ul class="pictures">{}</ul>').format(entries)


def data_uri(picture: npt.NDArray[Any]) -> str:
    """One picture as a PNG data URI, averaged down to at most 96 pixels a side; equal pixels give equal text."""
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3) or 0 in picture.shape:
        raise UnfitInput("picture", f"shape {picture.shape}", "(H, W) or (H, W, 3)")
    image = Image.fromarray(_bytes(picture))
    factor = math.ceil(max(image.size) / MAX_SIDE)
    sink = io.BytesIO()
    (image.reduce(factor) if factor > 1 else image).save(sink, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode("ascii")


def _bytes(picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if picture.dtype == np.uint8:
        return np.ascontiguousarray(picture)
    scaled = np.nan_to_num(picture.astype(np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    return np.ascontiguousarray((scaled.clip(0, 1) * 255).round().astype(np.uint8))
