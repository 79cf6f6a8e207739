"""``assay evaluate``: measure a model on records it did not learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli._evidence import lines, outcomes_beside, records_of
from assay.cli._shared import Json, answer

MERGE = "assay merge-evidence makes evidence of all parts."

__all__ = ["command"]


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="Model folder; or a black box: http(s)://host/v2/models/NAME, an MLflow folder, or XGBoost's JSON."
        ),
    ],
    data: Annotated[Path, typer.Option(help="Dataset folder: records the model did not learn from.")],
    out: Annotated[Path, typer.Option(help="Evidence to write, *.dsse.json.")],
    threat: Annotated[list[str] | None, typer.Option(help="norm:epsilon, such as linf:8/255; repeat for more.")] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            help="Attack and settings, such as pgd:steps=40,restarts=5, repeated for more; or a preset: standard."
        ),
    ] = None,
    aspect: Annotated[
        list[str] | None,
        typer.Option(help="What else to measure, with settings, such as calibration:bins=15; repeat for more."),
    ] = None,
    records: Annotated[
        list[str] | None,
        typer.Option(help="NAME=DATASET: other records that aspects ask for by name; repeat for more."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="assay.yaml, for its section evaluate.")] = None,
    target: Annotated[str, typer.Option(help="model@alias: measure its champion on the same records too.")] = "",
    outcomes: Annotated[Path | None, typer.Option(help="Parquet to write, one row a record.")] = None,
    page: Annotated[Path | None, typer.Option(help="HTML page to write.")] = None,
    queries: Annotated[int | None, typer.Option(help="Of a black box: how often one record may be asked.")] = None,
    answers: Annotated[
        str | None, typer.Option(help="Of a black box: scores (by default), probabilities or labels.")
    ] = None,
    pyfunc: Annotated[
        str | None, typer.Option(help="Consent to run an MLflow model's code: isolated, or unisolated.")
    ] = None,
    shard: Annotated[
        str, typer.Option(help="k/n: attack only the k-th of n shards, and write a part for merge-evidence.")
    ] = "",
    largest_error: Annotated[
        float | None, typer.Option(help="Of a regression: the largest error that counts, in units of the label.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure clean and robust accuracy; with exact intervals, and whether the measurement is to be trusted."""
    from assay.config.base import parse
    from assay.config.evaluate import EvaluateConfig
    from assay.data.files import require_places
    from assay.errors import UnfitInput
    from assay.promotions import target_of

    places: dict[str, Any] = {"evidence": out, "outcomes": outcomes or outcomes_beside(out)}
    require_places(page, *places.values())
    asked = {"queries": queries, "answers": answers, "pyfunc": pyfunc}
    if _only_asked(model):
        from assay.evaluate.black_box import evaluate_black_box

        if target or page or aspect or records or shard:
            raise UnfitInput(
                "assay evaluate",
                "--target, --page, --aspect, --records or --shard",
                "none of them for a black box",
            )
        settings = parse(EvaluateConfig, _black_box(config, threat, attack, asked, largest_error), "evaluate")
        document = evaluate_black_box(model, data, settings, **places)
    else:
        from assay.config.shard import Shard
        from assay.evaluate.shard import evaluate_shard
        from assay.evaluate.step import evaluate

        if any(value is not None for value in asked.values()):
            raise UnfitInput("assay evaluate", "--queries, --answers or --pyfunc", "none of them for a model folder")
        settings = _config(EvaluateConfig, config, threat, attack, aspect, records, largest_error)
        whose = target_of(target) if target else None
        if shard:
            if outcomes or page:
                raise UnfitInput("assay evaluate", "--outcomes or --page", "none of them with --shard", MERGE)
            document = evaluate_shard(Path(model), data, settings, Shard.read(shard), part=out, target=whose)
            answer(document, as_json, _part(document))
            return
        document = evaluate(Path(model), data, settings, page=page, target=whose, **places)
    answer(document, as_json, lines(document))


def _part(document: dict[str, Any]) -> list[str]:
    done = f"shard {document['shard']}: {document['records']['measured']} of {document['records']['of']} records"
    return [f"{done} in {document['part']}", MERGE]


def _only_asked(model: str) -> bool:
    """Whether a model can only be asked: behind an address, in MLflow's folder, or a file of trees."""
    if model.endswith((".json", ".ubj")) and Path(model).is_file():
        return True
    return model.startswith(("http://", "https://")) or (Path(model) / "MLmodel").is_file()


def _black_box(
    path: Path | None,
    threats: list[str] | None,
    attacks: list[str] | None,
    asked: dict[str, Any],
    largest_error: float | None,
) -> dict[str, Any]:
    """The section ``evaluate`` with what the command line says of its part ``black_box``."""
    from assay.config.root import Config

    base = Config.load(path).evaluate.to_json() if path else {}
    box = dict(base.get("black_box") or {}) | {key: value for key, value in asked.items() if value is not None}
    box |= {"attacks": dict(_member("--attack", text) for text in attacks)} if attacks else {}
    return base | {"black_box": box} | ({"threats": threats} if threats else {}) | _regression(largest_error)


def _regression(largest_error: float | None) -> dict[str, Any]:
    return {} if largest_error is None else {"regression": {"largest_error": largest_error}}


def _config(
    section: Any,
    path: Path | None,
    threats: list[str] | None,
    attacks: list[str] | None,
    aspects: list[str] | None,
    records: list[str] | None,
    largest_error: float | None,
) -> Any:
    """The section of the file, or the defaults, with what the command line says instead."""
    from assay.config.base import parse
    from assay.config.root import Config

    base = Config.load(path).evaluate.to_json() if path else {}
    given: dict[str, Any] = {"threats": threats} if threats else {}
    from assay.config.evaluate import PRESETS

    if attacks and len(attacks) == 1 and attacks[0] in PRESETS:
        given |= {"attacks": attacks[0]}
    elif attacks:
        given |= {"attacks": dict(_member("--attack", text) for text in attacks)}
    if aspects:
        given |= {"aspects": dict(_member("--aspect", text) for text in aspects)}
    if records:
        given |= {"sets": records_of(records)}
    return parse(section, base | given | _regression(largest_error), "evaluate")


def _member(option: str, text: str) -> tuple[str, dict[str, Any]]:
    """``name`` or ``name:key=value,...``, values in YAML."""
    import re

    import yaml

    from assay.errors import UnfitInput

    name, _, rest = text.partition(":")
    pairs = [part.partition("=") for part in re.split(r",(?=\w+=)", rest) if part]
    if not name or not all(key and equals for key, equals, _ in pairs):
        raise UnfitInput(option, repr(text), "name or name:key=value,..., such as pgd:steps=40,restarts=5")
    try:
        return name, {key: yaml.safe_load(value) for key, _, value in pairs}
    except yaml.YAMLError as error:
        raise UnfitInput(option, repr(text), "settings whose values are YAML, such as steps=40") from error
