"""No file that assay reads can run code: a canary in every format that could carry one, at every door that opens it.

A canary makes a folder when it is unpickled or constructed. The doors: a model's weights and golden inputs, an imported
safetensors file, a dataset's Parquet, an NPZ batch, every YAML and JSON file, and a folder made for another loader.
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from model_cases import digits, spec
from model_cases import folder as model_folder
from safetensors.torch import save as save_safetensors

from assay import canonical
from assay.cli.main import run
from assay.config.gate import PolicyConfig
from assay.config.root import Config
from assay.data.dataset import Dataset
from assay.errors import AssayError
from assay.keyring import Keyring
from assay.models.folder import load_model
from assay.models.spec import GOLDEN, SPEC, WEIGHTS, read_spec, spec_bytes
from assay.verify import verify


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def saved(save: Callable[[Any, io.BytesIO], object], value: Any) -> bytes:
    sink = io.BytesIO()
    save(value, sink)
    return sink.getvalue()


def pickled_npz(canary: Canary) -> bytes:
    column = np.empty(2, dtype=object)
    column[:] = [canary, canary]
    return saved(lambda value, sink: np.savez(sink, x=value, y=np.arange(2)), column)


def archive(**members: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        for name, data in members.items():
            file.writestr(name.replace("__", "/"), data)
    return sink.getvalue()


def extension_parquet(canary: Canary) -> bytes:
    """Arrow once unpickled the metadata of this extension type when it opened a file (CVE-2023-47248)."""
    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(canary)}
    schema = pa.schema([pa.field("input", pa.float32(), metadata=metadata)], metadata={"pandas": "{}"})
    return saved(pq.write_table, pa.table([pa.array([0.0], pa.float32())], schema=schema))


def stuffed_safetensors(canary: Canary) -> bytes:
    state = {"x": torch.zeros(2)}
    return save_safetensors(state, metadata={"format": "pt", "pickle": pickle.dumps(canary).hex()})


PAYLOADS: dict[str, Callable[[Canary], bytes]] = {
    "pickle": pickle.dumps,
    "pickle of protocol 0": lambda canary: pickle.dumps(canary, 0),
    "joblib": lambda canary: saved(joblib.dump, canary),
    "joblib, compressed": lambda canary: saved(lambda value, sink: joblib.dump(value, sink, compress=3), canary),
    "npz of objects": pickled_npz,
    "npy of objects": lambda canary: saved(lambda value, sink: np.save(sink, value), np.array([canary], dtype=object)),
    "torch zip": lambda canary: saved(torch.save, canary),
    "torch zip of a state": lambda canary: saved(torch.save, {"weight": torch.zeros(2), "extra": canary}),
    "torch before 1.6": lambda canary: saved(
        lambda value, sink: torch.save(value, sink, _use_new_zipfile_serialization=False), canary
    ),
    "pt2 archive": lambda canary: archive(
        archive_format=b"pt2", data__weights__model=pickle.dumps(canary), data__constants__c=pickle.dumps(canary)
    ),
    "keras archive": lambda canary: archive(config_json=b"{}", model__weights=pickle.dumps(canary)),
    "safetensors with a pickle in its header": stuffed_safetensors,
    "safetensors behind a pickle": lambda canary: pickle.dumps(canary) + save_safetensors({"x": torch.zeros(2)}),
    "parquet with a pickled type": extension_parquet,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model") / "model", spec("linear"))


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary(tmp_path / "canary")


def quiet(canary: Canary, doors: dict[str, Callable[[], object]]) -> None:
    """Behind every door an error of assay or an answer, and no canary."""
    for name, door in doors.items():
        with suppress(AssayError):
            door()
        assert not canary.path.exists(), name


def test_the_canaries_sing_where_somebody_unpickles(canary: Canary) -> None:
    """Else their silence would prove nothing."""
    loaders: dict[str, Callable[[bytes], object]] = {
        "pickle": pickle.loads,
        "joblib": lambda data: joblib.load(io.BytesIO(data)),
        "npz of objects": lambda data: np.load(io.BytesIO(data), allow_pickle=True)["x"],
        "torch zip": lambda data: torch.load(io.BytesIO(data), weights_only=False),
        "torch before 1.6": lambda data: torch.load(io.BytesIO(data), weights_only=False),
    }
    for name, load in loaders.items():
        load(PAYLOADS[name](canary)) if name != "npz of objects" else suppressed(load, PAYLOADS[name](canary))
        assert canary.path.exists(), name
        canary.path.rmdir()


def suppressed(load: Callable[[bytes], object], data: bytes) -> None:
    """Its second element makes the same folder again."""
    with suppress(FileExistsError):
        load(data)


FAST = ("pickle", "torch zip", "npz of objects", "parquet with a pickled type")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in FAST else [pytest.mark.slow]) for kind in PAYLOADS]
)
def test_no_door_lets_a_canary_sing(
    model: Path, canary: Canary, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model folders are sealed anew, so that the content is reached and not only a digest."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    data = PAYLOADS[kind](canary)
    doors: dict[str, Callable[[], object]] = {}
    weights, golden = (model / WEIGHTS).read_bytes(), (model / GOLDEN).read_bytes()
    for name, content in {WEIGHTS: (data, golden), GOLDEN: (weights, data)}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / WEIGHTS).write_bytes(content[0])
        (folder / GOLDEN).write_bytes(content[1])
        (folder / SPEC).write_bytes(spec_bytes(read_spec(model), *content))
        doors[f"load {name}"] = lambda folder=folder: load_model(folder)  # type: ignore[misc]
        doors[f"verify {name}"] = lambda folder=folder: verify(folder, Keyring())  # type: ignore[misc]
    file = tmp_path / "x.npz"
    file.write_bytes(data)
    dataset = tmp_path / "dataset"
    digits(slice(20)).save(dataset)
    (part,) = (dataset / "data").iterdir()
    part.write_bytes(data)
    given = [
        "import-model",
        str(file),
        "--architecture",
        "linear",
        "--golden",
        str(dataset),
        "--out",
        str(tmp_path / "o"),
    ]
    named = tmp_path / "x.pt"
    named.write_bytes(data)
    doors["import state dict"] = lambda: run([given[0], str(named), *given[2:]])
    doors |= {
        "npz": lambda: run(["ingest", f"v={file}", "--out", str(tmp_path / "ingested")]),
        "dataset": lambda: Dataset.load(dataset),
        "import": lambda: run(given),
        "keys": lambda: Keyring.load(file),
        "policy": lambda: PolicyConfig.load(file),
        "envelope": lambda: verify(file, Keyring()),
    }
    quiet(canary, doors)


YAML = [
    "!!python/object/apply:os.mkdir ['{path}']",
    "rules: !!python/object/apply:os.mkdir ['{path}']",
    "rules: [{{rule: !!python/object/apply:os.mkdir ['{path}']}}]",
    "? !!python/object/apply:os.mkdir ['{path}']\n: x",
    "!!python/object/new:os.mkdir {{args: ['{path}']}}",
    "x: !!python/name:os.mkdir\n",
    "!!python/module:os",
]


@pytest.mark.parametrize("text", YAML)
def test_no_tag_of_a_yaml_file_is_constructed(canary: Canary, tmp_path: Path, text: str) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(text.format(path=canary.path))
    doors: dict[str, Callable[[], object]] = {
        "yaml": lambda: canonical.read_yaml(file),
        "policy": lambda: PolicyConfig.load(file),
        "config": lambda: Config.load(file),
        "gate": lambda: run(["gate", str(file), "--policy", str(file)]),
    }
    quiet(canary, doors)
    with pytest.raises(AssayError):
        canonical.read_yaml(file)


def test_the_yaml_canary_sings_in_an_unsafe_loader(canary: Canary) -> None:
    yaml.load(YAML[0].format(path=canary.path), Loader=yaml.UnsafeLoader)
    assert canary.path.exists()


def test_a_folder_made_for_another_loader_is_no_model(model: Path, canary: Canary, tmp_path: Path) -> None:
    """MLflow's ``loader_module`` runs code even where pickles are forbidden."""
    folder = tmp_path / "mlflow"
    (folder / "code").mkdir(parents=True)
    code = f"import os\nos.mkdir({str(canary.path)!r})\ndef _load_pyfunc(path): pass\n"
    (folder / "code" / "evil.py").write_text(code)
    (folder / "MLmodel").write_text("flavors:\n  python_function: {loader_module: evil, code: code}\n")
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    doors: dict[str, Callable[[], object]] = {
        "load": lambda: load_model(folder),
        "verify": lambda: verify(folder, Keyring()),
        "import": lambda: run(["import-model", str(folder), "--architecture", "linear", "--golden", "x", "--out", "y"]),
    }
    quiet(canary, doors)
    with pytest.raises(AssayError):
        load_model(folder)


def test_an_architecture_that_names_code_is_not_imported(model: Path, canary: Canary, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    (tmp_path / "evil_code.py").write_text(f"import os\nos.mkdir({str(canary.path)!r})\nclass Net: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "model"
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    made = read_spec(model)
    evil = made.model_copy(update={"architecture": made.architecture.model_copy(update={"name": "evil_code:Net"})})
    (folder / SPEC).write_bytes(spec_bytes(evil, (folder / WEIGHTS).read_bytes(), (folder / GOLDEN).read_bytes()))
    with pytest.raises(AssayError):
        load_model(folder)
    assert not canary.path.exists()
