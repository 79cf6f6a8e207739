"""``assay train``: a dataset in, a model folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli._shared import Json, answer


def command(
    dataset: Annotated[Path, typer.Argument(help="Folder of the training records.")],
    out: Annotated[Path, typer.Option(help="Where the model folder goes.")],
    calibration: Annotated[
        Path | None, typer.Option(help="Trusted records for the golden inputs; by default the training records.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="An assay.yaml, of which the section train is used.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="With --config: key=value, such as train.epochs=3.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Architecture, such as small_cnn, mlp or linear.")] = None,
    model_settings: Annotated[str | None, typer.Option(help="Its settings, as JSON.")] = None,
    method: Annotated[str | None, typer.Option(help="cross_entropy, huber or adversarial.")] = None,
    method_settings: Annotated[str | None, typer.Option(help="Its settings, as JSON.")] = None,
    threat: Annotated[str | None, typer.Option(help="What adversarial training defends against: linf:8/255.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the records.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of initial weights, order and attacks.")] = None,
    as_json: Json = False,
) -> None:
    """Train a model; the same records, settings and seed give the same bytes."""
    from assay.config.base import parse
    from assay.config.root import Config
    from assay.config.train import TrainConfig
    from assay.data.files import require_places
    from assay.errors import UnfitInput
    from assay.models.spec import SPEC
    from assay.train.step import train

    if set_ and config is None:
        raise UnfitInput("--set", "no --config", "an assay.yaml to change")
    require_places(folders=[out], holding=[SPEC])
    document = (Config.load(config, set_ or ()).train if config else TrainConfig()).to_json()
    given: dict[str, Any] = {"threat": threat, "epochs": epochs, "seed": seed}
    document |= {key: value for key, value in given.items() if value is not None}
    document["model"] = _member(document["model"], model, model_settings, "--model-settings")
    document["method"] = _member(document["method"], method, method_settings, "--method-settings")
    result = train(dataset, parse(TrainConfig, document, "train"), model=out, calibration=calibration)
    answer(result, as_json, _lines(result))


def _member(configured: dict[str, Any], name: str | None, settings: str | None, where: str) -> dict[str, Any]:
    """The configured member with another name, which drops the settings of the old one, or other settings."""
    from assay import canonical

    member = configured if name in (None, configured["name"]) else {"name": name, "settings": {}}
    return member | ({"settings": canonical.loads(settings, where)} if settings is not None else {})


def _lines(result: dict[str, Any]) -> list[str]:
    name = "accuracy" if "train_accuracy" in result else "error"
    fitted = result[f"train_{name}"]
    against = f" against {result['threat']}" if result["threat"] else ""
    return [
        f"method    {result['method']}{against}, {result['epochs']} epochs, {result['seconds']:.1f} s",
        f"training  loss {result['final_loss']:.4f}, {name} {fitted['value']:.3f} "
        f"[{fitted['low']:.3f}, {fitted['high']:.3f}] (n={fitted['n']}), on the records it learned from",
        f"dataset   {result['dataset']['digest']}",
        f"model     {result['model']['digest']}  {result['model']['path']}",
    ]
