"""Folders of PNG and JPEG: one class a folder, or labels in a CSV beside them; decoded within a pixel limit.

The header of an image says how many pixels it holds; more than ``ingest.limits.pixels`` refuse it before anything is
decoded (by its own defaults Pillow decodes 81 million pixels from ten kilobytes without a word).
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from assay.config.ingest import IngestConfig, Limits
from assay.errors import UnfitInput
from assay.ingest.rows import Delivery, Refusal, Refused, Rows
from assay.ingest.unpack import require_size, unpacked

FORMATS = ("PNG", "JPEG")
SUFFIXES = (".png", ".jpg", ".jpeg")
MODES = {"L": "L", "1": "L", "P": "RGB", "RGB": "RGB"}
Pixels = npt.NDArray[np.uint8]

__all__ = ["Images"]


@dataclass(frozen=True)
class Images:
    """Reads ``folder/``: files in byte order of their relative path, all of one size, uint8 grey or RGB.

    Without labels beside them, the class of an image is the folder it lies in: ``cat/1.png``. With ``labels_uri``, a
    CSV with the columns ``file`` and that of the label names every image once. A broken image, one of another size, an
    animation, and one over the limit are refused and kept raw. Palettes become RGB, bilevel images grey; images with an
    alpha channel or more than 8 bits are refused, for whatever they became would be another picture.
    """

    endings: ClassVar[tuple[str, ...]] = ("/",)

    def chunks(self, delivery: Delivery, config: IngestConfig) -> Iterator[Rows]:
        """Read a batch, in one piece; see `Reader.chunks`."""
        require_size(delivery.path, config.limits)
        names = _names(delivery, config.limits)
        labels = _labels(delivery, names, config)
        decoded = list(_all_decoded(delivery, names, config.limits))
        shape = _shape(decoded)
        refused = []
        for row, (name, image) in enumerate(zip(names, decoded, strict=True)):
            reason = image if isinstance(image, str) else "" if image.shape == shape else "image_shape"
            if reason:
                refused.append(Refusal(row, 0, reason, (delivery.path / name).read_bytes()))
        share = Refused()
        share.note(len(names), refused)
        share.require_share(delivery.name, config.limits.refused_share)
        gone = {refusal.row for refusal in refused}
        kept = [row for row in range(len(names)) if row not in gone]
        if not kept:
            yield Rows(pa.table({"row": pa.array([], pa.int64())}), tuple(refused))
            return
        images = np.stack([decoded[row] for row in kept])
        table = {
            "row": pa.array(kept, pa.int64()),
            "image": pa.FixedShapeTensorArray.from_numpy_ndarray(images),
            "label": pa.array([labels[row] for row in kept], pa.string()),
        }
        yield Rows(pa.table(table), tuple(refused))


def _names(delivery: Delivery, limits: Limits) -> list[str]:
    """Relative paths of the images, in byte order."""
    where = f"batch {delivery.name}"
    found = sorted(_files(delivery.path, where), key=str.encode)
    if not found:
        raise UnfitInput(where, f"no image in {delivery.path}", f"files that end in {', '.join(SUFFIXES)}")
    if len(found) > limits.rows:
        raise UnfitInput(where, f"{len(found)} images", f"at most {limits.rows} (ingest.limits.rows)")
    return found


def _files(folder: Path, where: str) -> Iterator[str]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise UnfitInput(where, f"a link or special file {name!r}", "plain files only")
        if path.is_file():
            if not name.lower().endswith(SUFFIXES):
                raise UnfitInput(where, f"a file {name!r}", f"only files that end in {', '.join(SUFFIXES)}")
            yield name


def _labels(delivery: Delivery, names: list[str], config: IngestConfig) -> list[str]:
    where = f"batch {delivery.name}: labels"
    if delivery.labels is not None:
        given = _listed(delivery.labels, where, config)
        strange = next((name for name in (*names, *given) if name not in given or name not in set(names)), None)
        if strange is not None:
            raise UnfitInput(where, f"{strange!r} on one side only", "every image and every line of the labels once")
        return [given[name] for name in names]
    bare = next((name for name in names if len(PurePosixPath(name).parts) != 2), None)
    if bare is not None:
        raise UnfitInput(where, f"an image {bare!r}", "<class>/<name>, or labels_uri: a CSV of file and label")
    return [PurePosixPath(name).parts[0] for name in names]


def _listed(path: Path, where: str, config: IngestConfig) -> dict[str, str]:
    """File to label from a CSV of these two columns; every line must say both."""
    try:
        lines = list(
            csv.reader(io.StringIO(unpacked(path, config.limits).decode("utf-8-sig"), newline=""), strict=True)
        )
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnfitInput(where, f"{type(error).__name__}: {error}", "a CSV in UTF-8") from error
    lines = [line for line in lines if line]
    if not lines or sorted(lines[0]) != sorted(["file", config.label]):
        raise UnfitInput(where, f"a header {lines[:1]}", f"the columns file and {config.label}")
    file, label = lines[0].index("file"), lines[0].index(config.label)
    found: dict[str, str] = {}
    for number, line in enumerate(lines[1:], 2):
        if len(line) != 2 or not all(line) or line[file] in found:
            raise UnfitInput(f"{where}: record {number}", repr(line)[:200], "a file not named before, and its label")
        found[line[file]] = line[label]
    return found


def _all_decoded(delivery: Delivery, names: list[str], limits: Limits) -> Iterator[Pixels | str]:
    size = 0
    for name in names:
        image = _decoded(delivery.path / name, limits)
        size += 0 if isinstance(image, str) else image.nbytes
        if size > limits.file_bytes:
            where = f"batch {delivery.name}"
            raise UnfitInput(where, f"more than {limits.file_bytes} bytes of pixels", "less", "See ingest.limits.")
        yield image


def _decoded(path: Path, limits: Limits) -> Pixels | str:
    """The pixels (H, W) or (H, W, 3), or the reason why there are none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > limits.pixels:
                    return "too_many_pixels"
                if getattr(image, "n_frames", 1) != 1 or image.mode not in MODES or "transparency" in image.info:
                    return "image_mode"
                return np.asarray(image.convert(MODES[image.mode]), dtype=np.uint8)
    except (UnidentifiedImageError, Image.DecompressionBombError, Warning, OSError, ValueError, SyntaxError) as error:
        return "too_many_pixels" if "bomb" in type(error).__name__.lower() else "broken_image"


def _shape(decoded: list[Pixels | str]) -> tuple[int, ...]:
    """The commonest shape; of two as common, the greater."""
    shapes = [image.shape for image in decoded if not isinstance(image, str)]
    return max(set(shapes), key=lambda shape: (shapes.count(shape), shape), default=())
