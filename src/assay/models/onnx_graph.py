"""Networks from ONNX files: a chain of affine maps and ReLU becomes linear or mlp, exactly; other graphs are refused.

Only what the file itself holds is read: a tensor that lies in another file could be any file. The original's own
predictions come from ONNX's reference evaluator, which shares nothing with the conversion.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.canonical import read_bytes
from assay.errors import Refused, UnfitInput
from assay.models.scikit import Layers

MAX_BYTES, MAX_NODES = 2**28, 1000

Floats = npt.NDArray[np.float64]

__all__ = ["read_onnx"]


class _Chain:
    """Layers in the making: an affine map that grows until a ReLU closes it."""

    def __init__(self) -> None:
        self.weights: list[Floats] = []
        self.biases: list[Floats] = []
        self.weight: Floats | None = None
        self.scale: Floats = np.ones(1)
        self.bias: Floats = np.zeros(1)

    def multiply(self, matrix: Floats) -> None:
        """``x @ matrix``, matrix (in, out)."""
        width = len(matrix)
        if self.weight is None:
            self.weight, self.bias = np.diag(np.broadcast_to(self.scale, width)), np.broadcast_to(self.bias, width)
        self.weight, self.bias = matrix.T @ self.weight, self.bias @ matrix

    def shift(self, by: Floats) -> None:
        self.bias = self.bias + by.ravel()

    def stretch(self, by: Floats) -> None:
        by = by.ravel()
        self.bias = self.bias * by
        if self.weight is None:
            self.scale = self.scale * by
        else:
            self.weight = self.weight * by[:, None]

    def close(self) -> None:
        if self.weight is None:
            raise ValueError("no matrix before a ReLU, or none at all")
        self.weights.append(self.weight)
        self.biases.append(np.broadcast_to(self.bias, len(self.weight)).copy())
        self.weight, self.scale, self.bias = None, np.ones(1), np.zeros(1)


def read_onnx(path: Path) -> Layers:
    """The layers of a classifier, or of a regression of one output, in an ONNX file.

    Raises:
        UnfitInput: a file that is broken or too large, or ONNX is not installed.
        Refused: an operator, a branch or a tensor that is not one of a chain of layers held in the file.
    """
    model = _parsed(path)
    graph = model.graph
    held = {tensor.name: _array(tensor, path) for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in held]
    if len(inputs) != 1 or len(graph.output) != 1 or len(graph.node) > MAX_NODES or model.functions:
        raise Refused(f"model {path}", f"{len(inputs)} inputs, {len(graph.output)} outputs", "a chain from one to one")
    chain, here = _Chain(), inputs[0]
    nodes = list(graph.node)
    try:
        for number, node in enumerate(nodes):
            here = _follow(chain, node, here, held, path, last=number == len(nodes) - 1)
        chain.close()
    except (ValueError, IndexError, TypeError) as error:
        raise Refused(f"model {path}", f"{type(error).__name__}: {error}"[:300], "layers whose sizes fit") from error
    if here != graph.output[0].name:
        raise Refused(f"model {path}", f"an output {graph.output[0].name!r} beside the chain", f"{here!r}")
    outputs = len(chain.weights[-1])
    if outputs == 1 and nodes[-1].op_type == "Softmax":
        raise Refused(f"model {path}", "one output behind Softmax", "one logit a class, at least two, or a quantity")
    classes = tuple(str(number) for number in range(outputs)) if outputs > 1 else ()
    return Layers(tuple(chain.weights), tuple(chain.biases), classes, (), _predicts(model, inputs[0], path, outputs))


def _parsed(path: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise UnfitInput("onnx", "not installed", "pip install 'assay[onnx]'") from error
    data = read_bytes(path, MAX_BYTES)
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and checker raise kinds of their own
        raise UnfitInput(f"model {path}", f"{type(error).__name__}: {error}"[:300], "an ONNX file") from error
    return model


def _array(tensor: Any, path: Path) -> Floats:
    from onnx import TensorProto, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise Refused(f"model {path}", f"tensor {tensor.name!r} in another file", "every tensor in the file itself")
    if tensor.data_type not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64):
        raise Refused(f"model {path}", f"tensor {tensor.name!r} of type {tensor.data_type}", "float32 or float64")
    return np.asarray(numpy_helper.to_array(tensor), dtype=np.float64)


def _follow(chain: _Chain, node: Any, here: str, held: dict[str, Floats], path: Path, *, last: bool) -> str:
    """One node of the chain; the name of what it gives."""
    import onnx

    settings = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    fixed = [held.get(name) for name in node.input if name != here]
    right = [each for each in fixed if each is not None]
    if node.domain not in ("", "ai.onnx") or len(right) != len(fixed) or list(node.input).count(here) != 1:
        raise Refused(f"model {path}", f"node {node.op_type} of {list(node.input)}", "one that follows the last alone")
    first = node.input[0] == here
    match node.op_type:
        case "Gemm" if first and not settings.get("transA") and len(right) in (1, 2):
            matrix = right[0].T if settings.get("transB") else right[0]
            chain.multiply(float(settings.get("alpha", 1.0)) * matrix)
            if len(right) == 2:
                chain.shift(float(settings.get("beta", 1.0)) * right[1])
        case "MatMul" if first:
            chain.multiply(right[0])
        case "Add":
            chain.shift(right[0])
        case "Sub" if first:
            chain.shift(-right[0])
        case "Mul":
            chain.stretch(right[0])
        case "Div" if first:
            chain.stretch(1 / right[0])
        case "Relu":
            chain.close()
        case "Softmax" if last and settings.get("axis", -1) in (-1, 1):
            pass  # the order of the logits stays
        case "Flatten" if settings.get("axis", 1) == 1 and chain.weight is None and not chain.weights:
            pass
        case "Identity":
            pass
        case _:
            need = "Gemm, MatMul, Add, Sub, Mul, Div, Relu, Flatten first, Softmax last"
            raise Refused(
                f"model {path}", f"a node {node.op_type} {settings}"[:200], need, "Measure it as a black box."
            )
    return str(node.output[0])


def _predicts(model: Any, name: str, path: Path, outputs: int) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]:
    def predicts(x: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        from onnx.reference import ReferenceEvaluator

        try:
            said = np.asarray(ReferenceEvaluator(model).run(None, {name: x})[0])  # type: ignore[index]
        except Exception as error:
            raise UnfitInput(f"model {path}", f"{type(error).__name__}: {error}"[:300], "inputs that fit it") from error
        if said.shape != (len(x), outputs):
            raise UnfitInput(f"model {path}", f"outputs of shape {said.shape}", f"({len(x)}, {outputs})")
        if outputs == 1:
            return said[:, 0].astype(np.float64)
        return np.asarray(said.argmax(1), dtype=np.int64)

    return predicts
