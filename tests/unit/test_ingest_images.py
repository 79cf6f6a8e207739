"""Folders of PNG and JPEG: pixels as they are, labels from folders or a CSV, nothing decoded beyond its limit."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingest_cases import joined
from PIL import Image

from assay import canonical
from assay.cli.main import run as cli
from assay.config.base import parse
from assay.config.ingest import IngestConfig
from assay.data.dataset import Dataset
from assay.errors import UnfitInput
from assay.ingest.readers.images import Images
from assay.ingest.rows import Delivery, Rows


def png(path: Path, pixels: Any, mode: str | None = None, **given: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8), mode).save(path, **given)


def folder(tmp_path: Path, count: int = 6, shape: tuple[int, ...] = (5, 4, 3)) -> tuple[Path, list[Any]]:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape) for _ in range(count)]
    for k, pixels in enumerate(images):
        png(tmp_path / "in" / ("cat" if k % 2 else "ant") / f"{k}.png", pixels)
    return tmp_path / "in", images


def read(path: Path, labels: Path | None = None, **settings: Any) -> Rows:
    return joined(Images().chunks(Delivery("s/b", path, labels), parse(IngestConfig, settings, "ingest")))


def test_pixels_and_classes_come_in_byte_order_of_their_path(tmp_path: Path) -> None:
    place, images = folder(tmp_path)
    rows = read(place)
    assert rows.refused == ()
    assert rows.table["row"].to_pylist() == list(range(6))
    assert rows.table["label"].to_pylist() == ["ant"] * 3 + ["cat"] * 3
    got = rows.table["image"].chunk(0).to_numpy_ndarray()
    np.testing.assert_array_equal(got, np.stack([images[k] for k in (0, 2, 4, 1, 3, 5)]))
    assert got.dtype == np.uint8


def test_grey_images_and_jpegs_are_what_pillow_decodes(tmp_path: Path) -> None:
    place, _ = folder(tmp_path, shape=(8, 8))
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    image.save(place / "ant" / "z.JPEG")
    got = read(place).table["image"].chunk(0).to_numpy_ndarray()
    np.testing.assert_array_equal(got[3], np.asarray(Image.open(place / "ant" / "z.JPEG")))


def test_labels_of_a_csv_name_every_image_once(tmp_path: Path) -> None:
    place, _ = folder(tmp_path)
    names = sorted((path.relative_to(place).as_posix() for path in place.rglob("*.png")), key=str.encode)
    lines = [f"{name},{'xy'[k % 2]}" for k, name in enumerate(names)]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["file,label", *reversed(lines)]))
    assert read(place, labels).table["label"].to_pylist() == list("xyxyxy")
    for broken, words in (
        (["file,label", *lines[1:]], "one side only"),
        (["file,label", *lines, "ant/9.png,x"], "one side only"),
        (["file,label", *lines, lines[0]], "not named before"),
        (["name,label", *lines], "columns file and label"),
        (["file,label", *lines[1:], "ant/0.png,"], "not named before"),
        ([], "columns file and label"),
    ):
        labels.write_text("\n".join(broken))
        with pytest.raises(UnfitInput, match=words):
            read(place, labels)


def bomb(path: Path, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("1", (side, side)).save(path)


@pytest.mark.parametrize("side", [9000, 10_000, 14_000])
def test_an_image_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    """Pillow by itself loads 9,000 x 9,000 from 10 kB in silence, warns at 10,000 and refuses 14,000."""
    place, _ = folder(tmp_path, 12)
    bomb(place / "ant" / "b.png", side)
    rows = read(place)
    assert [(it.row, it.reason) for it in rows.refused] == [(6, "too_many_pixels")]
    assert rows.table["row"].to_pylist() == [k for k in range(13) if k != 6]


@pytest.mark.slow
def test_bombs_are_refused_within_little_memory(tmp_path: Path) -> None:
    place, _ = folder(tmp_path, 6)
    for k in range(3):
        bomb(place / "ant" / f"b{k}.png", 12_000)
    code = f"import sys; from assay.cli.main import run; sys.exit(run(['ingest', 'v={place}/', '--out', 'o']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 * 2**29, 3 * 2**29)),
    )
    assert done.returncode == 2, done.stderr
    assert "too_many_pixels" in done.stderr


def test_many_small_images_cannot_unpack_to_more_than_the_limit(tmp_path: Path) -> None:
    place, _ = folder(tmp_path, 6, (100, 100))
    for path in place.rglob("*.png"):
        Image.new("L", (100, 100)).save(path)
    with pytest.raises(UnfitInput, match="bytes of pixels"):
        read(place, limits={"file_bytes": 30_000})


def spoiled() -> dict[str, bytes]:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (5, 4, 3), dtype=np.uint8)).save(buffer, "PNG")
    good, made = buffer.getvalue(), {}
    for name, mode in (("image_mode", "RGBA"), ("image_shape", "RGB")):
        buffer = io.BytesIO()
        Image.new(mode, (4, 5) if name == "image_mode" else (5, 5)).save(buffer, "PNG")
        made[name] = buffer.getvalue()
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((5, 4), np.uint16)).save(buffer, "PNG")
    return made | {"image_mode ": buffer.getvalue(), "broken_image": good[: len(good) // 2], "broken_image ": b"GIF89a"}


@pytest.mark.parametrize("case", spoiled())
def test_an_image_that_is_not_like_the_others_is_kept_raw(tmp_path: Path, case: str) -> None:
    place, _ = folder(tmp_path, 12)
    (place / "cat" / "0.png").write_bytes(spoiled()[case])
    rows = read(place)
    assert [(it.row, it.reason, it.data) for it in rows.refused] == [(6, case.strip(), spoiled()[case])]
    assert rows.table.num_rows == 12


def test_links_strange_files_and_folders_without_classes_are_refused(tmp_path: Path) -> None:
    place, _ = folder(tmp_path)
    (place / "ant" / "link.png").symlink_to(place / "cat" / "1.png")
    with pytest.raises(UnfitInput, match="link"):
        read(place)
    (place / "ant" / "link.png").unlink()
    (place / "ant" / "note.txt").write_text("x")
    with pytest.raises(UnfitInput, match="note"):
        read(place)
    (place / "ant" / "note.txt").unlink()
    (place / "ant" / "0.png").rename(place / "0.png")
    with pytest.raises(UnfitInput, match="<class>/<name>"):
        read(place)
    with pytest.raises(UnfitInput, match="at most 5"):
        read(place, limits={"rows": 5})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnfitInput, match="no image"):
        read(tmp_path / "empty")


def test_a_folder_is_one_batch_bound_by_its_names_and_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, _ = folder(tmp_path)
    assert cli(["ingest", f"v/photos={place}/", "--out", str(tmp_path / "o")]) == 0
    made = Dataset.load(tmp_path / "o" / "dataset")
    assert made.record_ids == [f"v/photos:{k}" for k in range(6)]
    assert made.manifest.history.sources[0].sha256 == canonical.tree_digest(canonical.tree_files(place))
    assert made.manifest.content.classes == ("ant", "cat")
    (place / "ant" / "0.png").rename(place / "cat" / "0.png")
    assert cli(["ingest", f"v/photos={place}/", "--out", str(tmp_path / "p")]) == 2
    assert "for ever" in capsys.readouterr().err
