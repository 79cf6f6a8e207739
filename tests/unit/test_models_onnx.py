"""Networks from ONNX files: the same answers as ONNX's reference evaluator, and every other graph refused by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from evaluate_cases import dataset
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from assay.cli import main
from assay.errors import AssayError, Refused, UnfitInput
from assay.models.folder import load_model
from assay.models.onnx_graph import read_onnx
from assay.workspace import Workspace

DRAW = np.random.default_rng(0)
HELD = {
    "mean": DRAW.uniform(0, 1, 4), "scale": DRAW.uniform(1, 2, 4), "two": np.array([2.0]),
    "A": DRAW.normal(size=(4, 6)), "a": DRAW.normal(size=6), "At": DRAW.normal(size=(6, 4)),
    "B": DRAW.normal(size=(6, 3)), "b": DRAW.normal(size=3), "s": DRAW.uniform(1, 2, 3), "I": DRAW.normal(size=(4, 3)),
}  # fmt: skip


def write(path: Path, nodes: Sequence[Any], shape: Sequence[Any] = ("N", 4), **changes: Any) -> Path:
    """A chain of nodes ``(type, inputs, settings)``; the first input is what the node before gave, written as ``.``."""
    made = []
    for number, (kind, inputs, settings) in enumerate(nodes):
        before = "x" if number == 0 else f"h{number - 1}"
        names = [before if name == "." else name for name in inputs]
        made.append(helper.make_node(kind, names, ["y" if number == len(nodes) - 1 else f"h{number}"], **settings))
    held = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in (HELD | changes).items()]
    ends = [helper.make_tensor_value_info("x", 1, shape)], [helper.make_tensor_value_info("y", 1, ("N", "K"))]
    graph = helper.make_graph(made, "g", *ends, held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


CHAINS: dict[str, Any] = {
    "Gemm": [("Gemm", [".", "I", "b"], {})],
    "scaled network": [
        ("Sub", [".", "mean"], {}), ("Div", [".", "scale"], {}), ("MatMul", [".", "A"], {}), ("Add", ["a", "."], {}),
        ("Relu", ["."], {}), ("Gemm", [".", "B", "b"], {"alpha": 0.5, "beta": 2.0}), ("Softmax", ["."], {}),
    ],
    "transposed, stretched behind": [
        ("Identity", ["."], {}), ("Mul", [".", "two"], {}), ("Gemm", [".", "At", "a"], {"transB": 1}),
        ("Relu", ["."], {}), ("MatMul", [".", "B"], {}), ("Mul", [".", "s"], {}), ("Sub", [".", "b"], {}),
    ],
    "two matrices in a row": [("MatMul", [".", "A"], {}), ("MatMul", [".", "B"], {}), ("Add", [".", "b"], {})],
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_layers_are_the_graph(name, tmp_path):
    path = write(tmp_path / "m.onnx", CHAINS[name])
    layers = read_onnx(path)
    x = DRAW.uniform(-1, 2, (50, 4)).astype(np.float32)
    at = x.astype(np.float64)
    for number, (weight, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        at = (np.maximum(at, 0) if number else at) @ weight.T + bias
    if name == "scaled network":
        at = np.exp(at) / np.exp(at).sum(1, keepdims=True)
    np.testing.assert_allclose(at, ReferenceEvaluator(str(path)).run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)
    assert (layers.predicts(x) == at.argmax(1)).all()


def test_images_and_the_verb(workspace: Workspace, tmp_path, capsys):
    """A torch network, written by hand as exporters write it: Flatten, Gemm, Relu, Gemm."""
    workspace.initialise()
    x = DRAW.uniform(0, 1, (40, 2, 2)).astype(np.float32)
    dataset(x, np.arange(40) % 3, classes=3).save(tmp_path / "golden")
    chain = [
        ("Flatten", ["."], {"axis": 1}),
        ("Gemm", [".", "A", "a"], {}),
        ("Relu", ["."], {}),
        ("Gemm", [".", "B", "b"], {}),
    ]
    path = write(tmp_path / "m.onnx", chain, ("N", 1, 2, 2))
    arguments = [
        "import-model",
        str(path),
        "--golden",
        str(tmp_path / "golden"),
        "--out",
        str(tmp_path / "model"),
        "--json",
    ]
    assert main.run(arguments) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["architecture"] == {"name": "mlp", "settings": {"hidden": [6]}}
    with torch.no_grad():
        logits = load_model(tmp_path / "model").module(torch.from_numpy(x[:, None]))
    need = ReferenceEvaluator(str(path)).run(None, {"x": x[:, None]})[0]
    np.testing.assert_allclose(logits.numpy(), need, rtol=1e-4, atol=1e-5)


UNFIT: dict[str, Any] = {
    "a node Sigmoid": [("Gemm", [".", "A", "a"], {}), ("Sigmoid", ["."], {}), ("Gemm", [".", "B", "b"], {})],
    "a node Div": [("Div", ["two", "."], {}), ("Gemm", [".", "I", "b"], {})],
    "a node Softmax": [("Gemm", [".", "A", "a"], {}), ("Softmax", ["."], {}), ("Gemm", [".", "B", "b"], {})],
    "a node Gemm": [("Gemm", [".", "I", "b"], {"transA": 1})],
    "no matrix before a ReLU": [("Relu", ["."], {})],
    "node Add": [("Gemm", [".", "I", "b"], {}), ("Add", [".", "."], {})],
    "ValueError": [("MatMul", [".", "B"], {}), ("MatMul", [".", "A"], {})],
}


@pytest.mark.parametrize("message", UNFIT)
def test_other_graphs_are_refused(message, tmp_path):
    with pytest.raises(Refused, match=message):
        read_onnx(write(tmp_path / "m.onnx", UNFIT[message]))


def test_hostile_files_are_refused(tmp_path):
    path = write(tmp_path / "m.onnx", CHAINS["Gemm"])
    whole = path.read_bytes()
    for name, content in {"empty": b"", "text": b"a model", "cut": whole[: len(whole) // 2], "zip": b"PK\3\4"}.items():
        (tmp_path / f"{name}.onnx").write_bytes(content)
        with pytest.raises(UnfitInput, match=name):
            read_onnx(tmp_path / f"{name}.onnx")
    (tmp_path / "secret").write_bytes(b"\0" * 48)
    model = onnx.load(path)
    tensor = next(each for each in model.graph.initializer if each.name == "I")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "outside.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(AssayError, match="outside"):
        read_onnx(tmp_path / "outside.onnx")


def test_one_output_is_a_quantity(workspace, tmp_path):
    import pyarrow as pa
    from model_cases import history

    from assay.data.dataset import Dataset

    workspace.initialise()
    chain = [("Gemm", [".", "A", "a"], {}), ("Relu", ["."], {}), ("Gemm", [".", "c", "d"], {})]
    path = write(tmp_path / "m.onnx", chain, c=DRAW.normal(size=(6, 1)), d=np.array([30.0]))
    x = DRAW.uniform(0, 1, (60, 4)).astype(np.float32)
    keys = {"batch": pa.array(["clinic/a"] * 60, pa.string()), "row": pa.array(np.arange(60), pa.int64())}
    table = pa.table({**keys, **{f"x{at}": x[:, at] for at in range(4)}, "label": x[:, 0].astype(np.float64)})
    Dataset.make(table, [], history()).save(tmp_path / "golden")
    words = [str(path), "--golden", str(tmp_path / "golden"), "--out", str(tmp_path / "out")]
    assert main.run(["import-model", *words]) == 0
    model = load_model(tmp_path / "out")
    assert model.spec.regression
    need = ReferenceEvaluator(str(path)).run(None, {"x": x})[0]
    np.testing.assert_allclose(model.module(torch.from_numpy(x)).numpy(), need, rtol=1e-5, atol=1e-4)


def test_one_output_behind_softmax_is_refused(tmp_path):
    chain = [("Gemm", [".", "c"], {}), ("Softmax", ["."], {})]
    with pytest.raises(Refused, match="one output behind Softmax"):
        read_onnx(write(tmp_path / "m.onnx", chain, c=DRAW.normal(size=(4, 1))))
