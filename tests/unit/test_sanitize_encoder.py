"""Detectors on the embeddings of a given model: which numbers they see, what is recorded, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from model_cases import folder, images, spec, table

from assay import canonical
from assay.config.base import parse
from assay.config.encoder import EncoderConfig
from assay.config.sanitize import SanitizeConfig
from assay.data.dataset import Dataset, features
from assay.errors import AssayError, UnfitInput, UnknownName
from assay.models.encoder import load_encoder
from assay.models.folder import load_model
from assay.models.spec import model_digest
from assay.sanitize import detect as detecting
from assay.sanitize.detect import detect
from assay.sanitize.step import sanitize
from assay.workspace import Workspace

SHAPE = (1, 8, 8)


def pictures(count: int, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    return images(rng.integers(0, 256, (count, 8, 8), dtype=np.uint8), np.arange(count) % 10)


def config(model: Path | str, layer: str = "", **detectors: Any) -> SanitizeConfig:
    given = detectors or {"robust_z": {"on": "embeddings", "rate": 0.05}}
    return parse(SanitizeConfig, {"detectors": given, "encoder": {"model": str(model), "layer": layer}}, "sanitize")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return folder(tmp_path / "model", spec("small_cnn", SHAPE, width=2, hidden=12))


@pytest.mark.parametrize(("layer", "upto"), [("", 9), ("0", 1), ("7", 8), ("9", 10)])
def test_embeddings_are_the_activations_of_the_layer(model: Path, layer: str, upto: int) -> None:
    """Reference: the network's modules called one after the other; what the last linear layer reads, and outputs."""
    given, loaded = pictures(30), load_model(model).module
    x = torch.from_numpy(features(given))
    with torch.no_grad():
        expected = loaded.network[:upto]((x - loaded.mean) / loaded.scale).reshape(30, -1).numpy()
    got = load_encoder(EncoderConfig(model=str(model), layer=layer), "e").view(given.manifest)(given.table)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_detector_sees_embeddings_in_chunks_and_features_where_it_is_not_told_otherwise(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, trusted, every = pictures(50), pictures(80, 1), np.ones(50, bool)
    chosen = config(model, robust_z={"on": "embeddings", "rate": 0.05}, tukey={"rate": 0.05})
    encoder = load_encoder(chosen.encoder, "e")
    whole = {it.name: it for it in detect(given, every, trusted, chosen, encoder)}
    assert (whole["robust_z"].on, whole["tukey"].on) == ("embeddings", "features")
    plain = parse(SanitizeConfig, {"detectors": {name: {"rate": 0.05} for name in ("robust_z", "tukey")}}, "s")
    raw = {it.name: it for it in detect(given, every, trusted, plain)}
    np.testing.assert_array_equal(whole["tukey"].scores, raw["tukey"].scores)
    assert not np.allclose(whole["robust_z"].scores, raw["robust_z"].scores)
    monkeypatch.setattr(detecting, "CHUNK", 7)
    cut = {it.name: it for it in detect(given, every, trusted, chosen, encoder)}
    np.testing.assert_allclose(cut["robust_z"].scores, whole["robust_z"].scores, rtol=1e-4)
    assert [it.record_id for it in cut["robust_z"].findings] == [it.record_id for it in whole["robust_z"].findings]


@pytest.mark.slow
def test_the_step_records_which_model_it_saw_through(tmp_path: Path, model: Path, workspace: Workspace) -> None:
    given = pictures(60)
    given.save(tmp_path / "in")
    pictures(120, 1).save(tmp_path / "trusted")
    document = sanitize(
        tmp_path / "in", config(model), kept=tmp_path / "kept", quarantine=tmp_path / "left",
        calibration=tmp_path / "trusted", page=tmp_path / "page.html", run="r1",
    )  # fmt: skip
    assert document["detectors"][0]["on"] == "embeddings"
    digest = model_digest(model)
    assert Dataset.load(tmp_path / "kept").manifest.history.parameters["encoder"] == {"model": digest, "layer": ""}
    (name,) = workspace.ledger.names("runs/r1/")
    inputs = canonical.loads(workspace.ledger.get(name))["inputs"]
    assert {"kind": "model", "digest": digest, "context": "encoder"} in inputs
    assert "embeddings" in (tmp_path / "page.html").read_text()


def test_a_model_from_elsewhere_gives_other_manifests_and_the_same_folder_elsewhere_the_same(
    tmp_path: Path, model: Path
) -> None:
    given = pictures(60)
    given.save(tmp_path / "in")
    moved = folder(tmp_path / "elsewhere", spec("small_cnn", SHAPE, width=2, hidden=12))
    other = folder(tmp_path / "other", spec("small_cnn", SHAPE, width=2, hidden=12), seed=1)
    digests = []
    for k, place in enumerate((model, moved, other)):
        sanitize(tmp_path / "in", config(place), kept=tmp_path / f"k{k}", quarantine=tmp_path / f"q{k}")
        digests.append(Dataset.load(tmp_path / f"k{k}").manifest.digest)
    assert digests[0] == digests[1] != digests[2]


def changed(model: Path) -> None:
    weights = model / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(bytes(data))


def pickled(model: Path) -> None:
    (model / "weights.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")


@pytest.mark.parametrize(
    ("change", "layer", "given", "error", "words"),
    [
        (changed, "", pictures, UnfitInput, "weights"),
        (pickled, "", pictures, UnfitInput, "pkl"),
        (None, "fc", pictures, UnknownName, "fc"),
        (None, "", table, UnfitInput, r"records of shape \(3,\), need \(1, 8, 8\)"),
    ],
    ids=["a byte changed", "a pickle beside it", "no such layer", "another shape"],
)
def test_what_is_no_encoder_of_these_records_is_refused_and_nothing_is_written(
    tmp_path: Path, model: Path, change: Any, layer: str, given: Any, error: type[AssayError], words: str
) -> None:
    given(60).save(tmp_path / "in")
    if change is not None:
        change(model)
    with pytest.raises(error, match=words):
        sanitize(tmp_path / "in", config(model, layer), kept=tmp_path / "k", quarantine=tmp_path / "q")
    assert not (tmp_path / "k").exists()
    assert not (tmp_path / "q").exists()


def test_text_beside_numbers_and_layers_too_wide_are_refused(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worded = table(60)
    columns = worded.table.append_column("t", pa.array(["a"] * 60))
    worded = Dataset.make(columns, worded.manifest.content.classes, worded.manifest.history)
    encoder = load_encoder(config(model).encoder, "e")
    with pytest.raises(UnfitInput, match="feature 't'"):
        detect(worded, np.ones(60, bool), None, config(model), encoder)
    monkeypatch.setattr(detecting, "MAX_WIDTH", 11)
    with pytest.raises(UnfitInput, match="12 activations"):
        detect(pictures(60), np.ones(60, bool), None, config(model), encoder)


@pytest.mark.parametrize(
    "given", [{"encoder": {"model": "m"}}, {"detectors": {"tukey": {"on": "embeddings"}}}], ids=["unused", "missing"]
)
def test_an_encoder_and_a_detector_that_looks_through_it_come_together(given: dict[str, Any]) -> None:
    with pytest.raises(UnfitInput, match="both or none"):
        parse(SanitizeConfig, given, "sanitize")


@pytest.mark.slow
def test_without_an_encoder_the_step_loads_no_torch(tmp_path: Path) -> None:
    pictures(60).save(tmp_path / "in")
    code = (
        "import sys; from assay.cli.main import run; "
        "code = run(['sanitize', 'in', '--out', 'k', '--quarantine', 'q']); "
        "sys.exit(code or 9 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
