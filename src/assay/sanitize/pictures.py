"""Pictures on the page: records as PNG, counts and distributions as inline SVG. Equal input gives equal bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.image import imsave

from assay.data.findings import Split

__all__ = ["bars", "histogram", "image"]


def image(cell: pa.ChunkedArray) -> Any:
    """One cell as an HTML picture when it is an image of one, three or four channels, else its plain value."""
    if not isinstance(cell.type, pa.FixedShapeTensorType):
        return cell[0].as_py()
    pixels = _channels_last(cell.chunk(0).to_numpy_ndarray()[0])
    if pixels is None:
        return f"tensor of shape {tuple(cell.type.shape)}"
    sink = io.BytesIO()
    imsave(sink, pixels, format="png", cmap="gray", vmin=0.0, vmax=1.0)
    data = base64.b64encode(sink.getvalue()).decode()
    return Markup(
        '<img alt="record" width="56" style="image-rendering:pixelated" src="data:image/png;base64,{}">'
    ).format(data)


def bars(removed: Mapping[str, Mapping[str, int]]) -> Markup:
    """Records removed, one bar a source, one part a reason."""
    sources, reasons = sorted(removed), sorted({reason for counts in removed.values() for reason in counts})
    figure = Figure(figsize=(7, 0.6 + 0.4 * len(sources)))
    axes = figure.add_subplot()
    left = np.zeros(len(sources))
    for reason in reasons:
        counts = np.array([removed[source].get(reason, 0) for source in sources])
        axes.barh(sources, counts, left=left, label=reason)
        left += counts
    axes.set_xlabel("records removed")
    axes.legend(fontsize=7)
    return _svg(figure)


def histogram(name: str, parts: Split) -> Markup | None:
    """Distribution of one numeric feature among kept and quarantined records; None for text and images."""
    kept, left = (_finite(part.table[name]) for part in (parts.kept, parts.quarantined))
    if kept is None or left is None or not len(kept) + len(left):
        return None
    edges = np.histogram_bin_edges(np.concatenate([kept, left]), bins=30)
    figure = Figure(figsize=(5, 1.8))
    axes = figure.add_subplot()
    axes.hist([kept, left], bins=list(edges), stacked=True, label=["kept", "quarantined"])
    axes.legend(fontsize=7)
    return _svg(figure)


def _finite(column: pa.ChunkedArray) -> npt.NDArray[np.float64] | None:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return None
    values = np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    return values[np.isfinite(values)]


def _channels_last(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float64] | None:
    """(H, W) or (H, W, 3 or 4) with values in [0, 1], NaN as 0; None for a tensor that is no image."""
    scaled = np.nan_to_num(pixels.astype(np.float64) / (255.0 if pixels.dtype == np.uint8 else 1.0))
    low, high = float(scaled.min()), float(scaled.max())
    if (low < 0.0 or high > 1.0) and high > low:
        scaled = (scaled - low) / (high - low)
    scaled = scaled.clip(0.0, 1.0)
    if scaled.ndim == 3 and scaled.shape[0] in (1, 3, 4) and scaled.shape[-1] not in (1, 3, 4):
        scaled = scaled.transpose(1, 2, 0)
    if scaled.ndim == 3 and scaled.shape[-1] == 1:
        scaled = scaled[..., 0]
    return scaled if scaled.ndim == 2 or (scaled.ndim == 3 and scaled.shape[-1] in (3, 4)) else None


def _svg(figure: Figure) -> Markup:
    sink = io.StringIO()
    with rc_context({"svg.hashsalt": "assay"}):
        figure.savefig(sink, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = sink.getvalue()
    return Markup(text[text.index("<svg") :])
