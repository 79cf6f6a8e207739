"""A model folder is the model that was written, or it is refused. Nothing in it is ever unpickled."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from model_cases import folder, images, inputs, module, spec
from safetensors.torch import save_file

from assay import canonical
from assay.errors import AssayError, Refused, UnfitInput, UnknownName
from assay.ledger import open_ledger
from assay.models import spec as spec_module
from assay.models.folder import load_model, save_model
from assay.models.importing import import_model, import_weights
from assay.models.spec import GOLDEN, SPEC, WEIGHTS, Architecture, model_digest, read_spec


@pytest.fixture
def model(tmp_path) -> Path:
    return folder(tmp_path / "model")


def reseal(path: Path, **changes: object) -> None:
    """Write model.json again so that it agrees with its folder, as a forger would."""
    document = json.loads((path / SPEC).read_bytes()) | changes
    document |= {"weights_sha256": canonical.file_digest(path / WEIGHTS)}
    document |= {"golden_sha256": canonical.file_digest(path / GOLDEN)}
    del document["checksum"]
    (path / SPEC).write_bytes(canonical.dumps(document | {"checksum": canonical.digest(document)}))


def test_equal_models_have_equal_bytes_and_a_repeat_changes_nothing(tmp_path):
    first, second = folder(tmp_path / "a"), folder(tmp_path / "b")
    assert canonical.tree_files(first) == canonical.tree_files(second)
    assert model_digest(folder(tmp_path / "a")) == load_model(second).digest
    with pytest.raises(UnfitInput, match="other content"):
        folder(tmp_path / "a", seed=1)
    assert model_digest(first) == model_digest(second)


def test_any_changed_byte_is_refused(model):
    """200 flips of one random bit, in all three files, those included that leave model.json valid JSON."""
    rng = random.Random(0)
    for _ in range(200):
        path = model / rng.choice([SPEC, WEIGHTS, GOLDEN])
        intact = path.read_bytes()
        changed = bytearray(intact)
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(UnfitInput):
            load_model(model)
        path.write_bytes(intact)
    assert load_model(model)


@pytest.mark.parametrize(
    "change", [('"3"', '"8"'), ("0.25", "0.26"), ("[0,1]", "[0,2]"), ("cross_entropy", "adversarial_")]
)
def test_a_changed_word_in_valid_json_is_refused(model, change):
    text = (model / SPEC).read_text().replace("[0.0,1.0]", "[0,1]")
    assert change[0] in text
    (model / SPEC).write_text(text.replace(*change, 1))
    with pytest.raises(UnfitInput, match="checksum"):
        read_spec(model)


def test_white_space_in_model_json_is_refused(model):
    (model / SPEC).write_bytes((model / SPEC).read_bytes() + b"\n")
    with pytest.raises(UnfitInput, match=SPEC):
        read_spec(model)


def test_exactly_three_plain_files(model, tmp_path):
    (model / "extra.py").write_text("")
    with pytest.raises(UnfitInput, match=r"extra\.py"):
        load_model(model)
    (model / "extra.py").unlink()
    (model / GOLDEN).rename(tmp_path / GOLDEN)
    with pytest.raises(UnfitInput, match="exactly"):
        load_model(model)
    os.symlink(tmp_path / GOLDEN, model / GOLDEN)
    with pytest.raises(UnfitInput, match="link"):
        load_model(model)
    with pytest.raises(UnfitInput, match="no folder"):
        load_model(tmp_path / "nowhere")


def test_golden_outputs_are_replayed(model, tmp_path):
    """A folder put together from two models agrees with itself in every digest; the replay finds it."""
    other = folder(tmp_path / "other", seed=1)
    shutil.copy(other / WEIGHTS, model / WEIGHTS)
    reseal(model)
    with pytest.raises(Refused, match="logits up to"):
        load_model(model)


def test_golden_outputs_tell_a_change_of_preprocessing(model):
    document = json.loads((model / SPEC).read_bytes())
    reseal(model, preprocessing=document["preprocessing"] | {"mean": [0.501]})
    with pytest.raises(Refused, match="logits up to"):
        load_model(model)


def test_weights_that_are_not_finite_are_refused(model, tmp_path):
    for bad in (float("nan"), float("inf")):
        state = {name: value.clone() for name, value in module(spec(hidden=[8])).network.state_dict().items()}
        state["1.weight"][0, 0] = bad
        save_file(state, model / WEIGHTS)
        reseal(model)
        with pytest.raises(UnfitInput, match="not finite"):
            load_model(model)
        broken = module(spec(hidden=[8]))
        broken.network.load_state_dict(state)
        with pytest.raises(UnfitInput, match="not finite"):
            save_model(tmp_path / "never", broken, spec(hidden=[8]), inputs((1, 8, 8)))
        assert not (tmp_path / "never").exists()


def test_weights_of_other_names_types_or_shapes_are_refused(model):
    state = {name: value.clone() for name, value in module(spec(hidden=[8])).network.state_dict().items()}
    wrong = {
        "none, need": {name: value for name, value in state.items() if name != "1.bias"} | {"x": state["1.bias"]},
        "float16": {**state, "1.weight": state["1.weight"].half(), "pad": torch.zeros(512, dtype=torch.float16)},
        r"\(8, 8, 8\)": {**state, "1.weight": state["1.weight"].reshape(8, 8, 8)},
    }
    for message, tensors in wrong.items():
        save_file(tensors, model / WEIGHTS)
        reseal(model)
        with pytest.raises(UnfitInput, match=message):
            load_model(model)


def test_a_small_file_does_not_become_a_billion_weights(model):
    """The architecture is built without memory, and compared with the size of the file, before anything is read."""
    resource = pytest.importorskip("resource")
    reseal(model, architecture={"name": "mlp", "settings": {"hidden": [1_000_000_000]}})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnfitInput, match="bytes, need the architecture's"):
        load_model(model)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", [WEIGHTS, GOLDEN, SPEC])
def test_nothing_is_unpickled(model, tmp_path, name):
    canary = tmp_path / "canary"
    for dump in (
        lambda path: path.write_bytes(pickle.dumps(Canary(canary))),
        lambda path: torch.save(Canary(canary), path),
    ):
        dump(model / name)
        if name != SPEC:
            reseal(model)
        with pytest.raises(UnfitInput):
            load_model(model)
        assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists(), "the canary itself works"


def test_an_import_path_needs_the_callers_leave(model, monkeypatch):
    reseal(model, architecture={"name": "own_architecture:Own", "settings": {}})
    monkeypatch.syspath_prepend(str(model.parent))
    (model.parent / "own_architecture.py").write_text(
        "from assay.models.mlp import MLP\n"
        "class Own:\n"
        "    def build(self, input_shape, classes):\n"
        "        return MLP(hidden=(8,)).build(input_shape, classes)\n"
    )
    with pytest.raises(Refused, match="import path"):
        load_model(model)
    assert "own_architecture" not in sys.modules
    assert load_model(model, allowed={"own_architecture:Own"})
    reseal(model, architecture={"name": "no_such_module:Own", "settings": {}})
    with pytest.raises(AssayError, match="no_such_module"):
        load_model(model, allowed={"no_such_module:Own"})


def test_unknown_names_in_model_json_are_said_with_the_nearest(model):
    reseal(model, architecture={"name": "mpl", "settings": {}})
    with pytest.raises(UnknownName, match="Did you mean 'mlp'"):
        load_model(model)
    reseal(model, architecture={"name": "mlp", "settings": {}}, klasses=["a", "b"])
    with pytest.raises(UnknownName, match="Did you mean 'classes'"):
        read_spec(model)
    reseal(model, schema="assay.model/v2")
    with pytest.raises(UnfitInput, match=r"need assay\.model/v1"):
        read_spec(model)


def test_the_spec_is_read_without_torch(model):
    script = (
        "import sys; from assay.models.spec import read_spec, model_digest;"
        f"print(read_spec({str(model)!r}).architecture.name, model_digest({str(model)!r}), 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert said == ["mlp", model_digest(model), "False"]
    assert spec_module.__name__ in sys.modules


@pytest.mark.parametrize("form", [str, lambda path: path.as_uri()])
def test_import_copies_a_folder_that_proves_itself_and_records_it(model, tmp_path, workspace, form):
    result = import_model(form(model), model=tmp_path / "copy")
    assert result["model"]["digest"] == model_digest(model) == model_digest(tmp_path / "copy")
    ledger = open_ledger(workspace.ledger_uri)
    record = json.loads(ledger.get(f"models/{model_digest(model)}.json"))
    assert record["files"] == canonical.tree_files(model)
    assert all(ledger.get(f"models/{model_digest(model)}/{name}") for name in record["files"])


def test_import_refuses_a_folder_that_does_not(model, tmp_path):
    for uri in ("s3://bucket/model", "http://host/model", "file://host/model"):
        with pytest.raises(UnfitInput, match="model uri"):
            import_model(uri, model=tmp_path / "copy")
    shutil.copy(folder(tmp_path / "other", seed=1) / WEIGHTS, model / WEIGHTS)
    with pytest.raises(UnfitInput, match=WEIGHTS):
        import_model(str(model), model=tmp_path / "copy")
    reseal(model)
    with pytest.raises(Refused):
        import_model(str(model), model=tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_import_makes_a_folder_of_foreign_weights(tmp_path):
    """The logits of a plain torch network are those of the folder made from its weights."""
    foreign = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    save_file(foreign.state_dict(), tmp_path / "foreign.safetensors")
    rng = np.random.default_rng(0)
    images(rng.integers(0, 256, (20, 8, 8), dtype=np.uint8), np.arange(20) % 3, classes=3).save(tmp_path / "golden")
    import_weights(
        tmp_path / "foreign.safetensors",
        Architecture(name="linear"),
        golden=tmp_path / "golden",
        model=tmp_path / "model",
    )
    loaded = load_model(tmp_path / "model")
    x = torch.from_numpy(inputs((1, 8, 8)))
    torch.testing.assert_close(loaded.module(x), foreign(x))
    assert (loaded.spec.classes, loaded.spec.input_shape) == (("0", "1", "2"), (1, 8, 8))
    assert (loaded.spec.trained.method, loaded.spec.trained.dataset) == ("imported", "")
    with pytest.raises(UnfitInput, match="bytes, need the architecture's"):
        import_weights(
            tmp_path / "foreign.safetensors",
            Architecture(name="mlp"),
            golden=tmp_path / "golden",
            model=tmp_path / "no",
        )
    assert not (tmp_path / "no").exists()
