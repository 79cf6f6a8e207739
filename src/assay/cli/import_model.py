"""``assay import-model``: a model folder from weights that assay did not train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from assay.cli._shared import Json, answer

N = TypeVar("N", int, float)


def command(
    weights: Annotated[
        Path,
        typer.Argument(
            help="The architecture's tensors: safetensors, or a state dict (.pt, .pth); or a skops or ONNX file."
        ),
    ],
    golden: Annotated[Path, typer.Option(help="A dataset; its first 16 records become the golden inputs.")],
    out: Annotated[Path, typer.Option(help="Where the model folder goes.")],
    architecture: Annotated[
        str, typer.Option(help="Such as small_cnn, mlp or linear; a skops or ONNX file says it itself.")
    ] = "",
    settings: Annotated[str, typer.Option(help="Settings of the architecture, as JSON.")] = "{}",
    input_shape: Annotated[
        str, typer.Option(help="Such as 3,32,32 or 20; by default that of the golden dataset.")
    ] = "",
    classes: Annotated[
        str, typer.Option(help="Names in the order of the logits, between commas; by default the golden dataset's.")
    ] = "",
    bounds: Annotated[str, typer.Option(help="Least and greatest valid input.")] = "0,1",
    mean: Annotated[str, typer.Option(help="Subtracted first, one a channel or column; by default 0.")] = "",
    scale: Annotated[str, typer.Option(help="Divided by then, one a channel or column; by default 1.")] = "",
    as_json: Json = False,
) -> None:
    """Make a model folder of somebody else's file: safetensors, state dict, skops, ONNX. Nothing in it is ever run."""
    from assay import canonical
    from assay.config.base import parse
    from assay.data.files import require_places
    from assay.errors import UnfitInput
    from assay.models.importing import import_layers, import_weights
    from assay.models.onnx_graph import read_onnx
    from assay.models.scikit import is_skops, read_skops
    from assay.models.spec import SPEC, Architecture, Preprocessing

    require_places(folders=[out], holding=[SPEC])
    if not weights.is_file():  # a device or a pipe has no end, or none that is known
        raise UnfitInput(str(weights), "no plain file", "a safetensors, state dict, skops or ONNX file")
    box = _numbers(float, bounds, "--bounds")
    if len(box) != 2:
        raise UnfitInput("--bounds", repr(bounds), "two numbers, such as 0,1")
    if is_skops(weights) or weights.suffix == ".onnx":
        if architecture or settings != "{}" or input_shape or classes or mean or scale:
            raise UnfitInput(
                "import-model", "options beside a skops or ONNX file", "--golden, --out and --bounds alone"
            )
        layers = read_onnx(weights) if weights.suffix == ".onnx" else read_skops(weights)
        result = import_layers(layers, golden=golden, model=out, bounds=(box[0], box[1]))
        answer(result, as_json, [f"model  {result['model']['digest']}  {result['model']['path']}"])
        return
    if not architecture:
        raise UnfitInput("--architecture", "none", "the architecture whose weights these are, such as mlp")
    if bool(mean) != bool(scale):
        raise UnfitInput("--mean and --scale", "one of them", "both or neither")
    moments = {"mean": _numbers(float, mean, "--mean"), "scale": _numbers(float, scale, "--scale")}
    network = {"name": architecture, "settings": canonical.loads(settings, "--settings")}
    result = import_weights(
        weights,
        parse(Architecture, network, "--architecture"),
        golden=golden,
        model=out,
        classes=[name.strip() for name in classes.split(",")] if classes else (),
        input_shape=_numbers(int, input_shape, "--input-shape"),
        bounds=(box[0], box[1]),
        preprocessing=parse(Preprocessing, moments, "--mean and --scale") if mean else None,
    )
    model = result["model"]
    answer(result, as_json, [f"model  {model['digest']}  {model['path']}"])


def _numbers(kind: type[N], text: str, where: str) -> list[N]:
    """Numbers between commas."""
    from assay.errors import UnfitInput

    try:
        return [kind(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise UnfitInput(where, repr(text), "numbers between commas") from error
