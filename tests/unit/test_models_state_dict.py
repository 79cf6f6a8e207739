"""State dicts of ``torch.save``: the same weights, and nothing else in such a file is ever run."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluate_cases import dataset
from torch import nn

from assay.cli import main
from assay.errors import AssayError, Refused, UnfitInput
from assay.models.folder import load_model
from assay.models.state_dict import read_state_dict

SIZE = 4 * (4 * 5 + 5 + 5 * 2 + 2)


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))


class Exploit:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def golden(workspace, tmp_path: Path) -> Path:
    workspace.initialise()
    x = np.random.default_rng(0).random((40, 4), np.float32)
    dataset(x, np.arange(40) % 2).save(tmp_path / "golden")
    return tmp_path / "golden"


def imported(weights: Path, golden: Path, out: Path) -> int:
    network = ["--architecture", "mlp", "--settings", '{"hidden": [5]}']
    return main.run(["import-model", str(weights), *network, "--golden", str(golden), "--out", str(out)])


@pytest.mark.parametrize("ending", ["pt", "pth"])
@pytest.mark.parametrize("parameters", [False, True])
def test_gives_the_logits_of_the_module_it_was_saved_from(golden, tmp_path, ending, parameters):
    model = network()
    state = dict(model.named_parameters()) if parameters else model.state_dict()
    torch.save(state, tmp_path / f"m.{ending}")
    assert imported(tmp_path / f"m.{ending}", golden, tmp_path / "out") == 0
    x = torch.rand(20, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(load_model(tmp_path / "out").module(x), model(x))


def test_views_of_one_storage_become_tensors_of_their_own(tmp_path):
    both = torch.arange(6.0)
    torch.save({"a": both[:4].reshape(2, 2).T, "b": both[2:]}, tmp_path / "m.pt")
    found = read_state_dict(tmp_path / "m.pt", 100)
    assert found["a"].tolist() == [[0, 2], [1, 3]]
    assert found["a"].is_contiguous()
    found["a"].zero_()
    assert found["b"].tolist() == [2, 3, 4, 5]


def rewritten(path: Path, index: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """An archive of torch.save with another index."""
    torch.save(network().state_dict(), path)
    with zipfile.ZipFile(path) as given:
        parts = {name: given.read(name) for name in given.namelist()}
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, data in parts.items():
            made.writestr(name, index if name.endswith("data.pkl") and index else data)
    return path


def exploits(tmp_path: Path, flag: Path) -> dict[str, Path]:
    """Files that run a command where they are unpickled."""
    made = {name: tmp_path / f"{name}.pt" for name in ("zip", "inside", "legacy", "plain", "module", "tar")}
    torch.save(Exploit(flag), made["zip"])
    torch.save(network().state_dict() | {"1.weight": Exploit(flag)}, made["inside"])
    torch.save(Exploit(flag), made["legacy"], _use_new_zipfile_serialization=False)
    made["plain"].write_bytes(pickle.dumps(Exploit(flag)))
    torch.save(network(), made["module"])
    made["tar"].write_bytes(b"not an archive at all")
    for protocol in range(6):
        index = pickle.dumps(Exploit(flag), protocol)
        made[f"protocol {protocol}"] = rewritten(tmp_path / f"p{protocol}.pt", index)
    for name, index in {
        "by the extension registry": b"\x80\x02\x82\x01.",
        "getattr": b"cbuiltins\ngetattr\n(cposix\nX\x06\x00\x00\x00systemtR.",
        "instance": b"(S'true'\nios\nsystem\n.",
        "build": b"\x80\x02ccollections\nOrderedDict\n)R}X\x09\x00\x00\x00__class__cos\nsystem\nsb.",
        "endless": b"\x80\x02" + b"(" * 1000,
        "persistent": b"\x80\x02Pos.system\n.",
    }.items():
        made[name] = rewritten(tmp_path / f"{name}.pt", index)
    return made


def test_nothing_in_a_hostile_file_runs(golden, tmp_path, monkeypatch, capsys):
    """Also where somebody set the variable by which torch unpickles everything."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    flag = tmp_path / "ran"
    for name, path in exploits(tmp_path, flag).items():
        with pytest.raises((Refused, UnfitInput)) as raised:
            read_state_dict(path, SIZE)
        assert str(path) in str(raised.value), name
        assert imported(path, golden, tmp_path / "out") in (1, 2), name
        assert not flag.exists(), name
    assert not (tmp_path / "out").exists()


def test_the_exploits_are_real(tmp_path):
    """Else their silence would prove nothing."""
    for name in ("zip", "inside", "legacy"):
        flag = tmp_path / f"{name}-ran"
        torch.load(exploits(tmp_path, flag)[name], weights_only=False)
        assert flag.exists(), name


def test_says_what_a_file_names_that_it_may_not(tmp_path):
    torch.save(Exploit(tmp_path / "ran"), tmp_path / "m.pt")
    with pytest.raises(Refused, match=r"global posix system"):
        read_state_dict(tmp_path / "m.pt", SIZE)
    torch.save(network(), tmp_path / "module.pt")
    with pytest.raises(Refused, match=r"Sequential"):
        read_state_dict(tmp_path / "module.pt", SIZE)


def test_a_checkpoint_around_the_weights_is_told_what_to_save(tmp_path):
    torch.save({"state_dict": network().state_dict(), "epoch": 3}, tmp_path / "m.pt")
    with pytest.raises(UnfitInput, match=r"Save model\.state_dict\(\)"):
        read_state_dict(tmp_path / "m.pt", SIZE)
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(UnfitInput, match="no dict"):
        read_state_dict(tmp_path / "list.pt", SIZE)


def test_what_is_larger_than_the_architecture_or_compressed_is_not_read(tmp_path):
    torch.save({"w": torch.zeros(5_000_000)}, tmp_path / "m.pt")
    with pytest.raises(UnfitInput, match="the architecture's"):
        read_state_dict(tmp_path / "m.pt", SIZE)
    with pytest.raises(UnfitInput, match="compressed"):
        read_state_dict(rewritten(tmp_path / "c.pt", b"", zipfile.ZIP_DEFLATED), SIZE)


@pytest.mark.parametrize(
    ("state", "match"),
    [
        (lambda state: {**state, "more": torch.zeros(1)}, "more"),
        (lambda state: {name: value.double() for name, value in state.items()}, "float64"),
        (lambda state: {f"module.{name}": value for name, value in state.items()}, "got none"),
        (lambda state: {**state, "1.bias": torch.full((5,), torch.nan)}, "not finite"),
        (lambda state: {**state, "1.bias": torch.zeros(5).to_sparse()}, "."),
        (lambda state: {**state, "1.bias": torch.zeros(1).expand(6)}, "1.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(golden, tmp_path, capsys, state, match):
    torch.save(state(network().state_dict()), tmp_path / "m.pt")
    assert imported(tmp_path / "m.pt", golden, tmp_path / "out") in (1, 2)
    assert match in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("place", range(0, 100, 7))
def test_a_changed_byte_of_the_index_is_an_error_or_other_numbers(tmp_path, place):
    torch.save(network().state_dict(), tmp_path / "m.pt")
    with zipfile.ZipFile(tmp_path / "m.pt") as archive:
        index = bytearray(archive.read("m/data.pkl"))
    index[place * len(index) // 100] ^= 0xFF
    rewritten(tmp_path / "n.pt", bytes(index))
    try:
        found = read_state_dict(tmp_path / "n.pt", SIZE)
    except AssayError:
        return
    assert all(isinstance(value, torch.Tensor) for value in found.values())
