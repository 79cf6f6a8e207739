"""The KFP step ``train``: one model from one dataset."""

from kfp import dsl

from assay.components.authoring import component


@component
def train(
    dataset: dsl.Input[dsl.Dataset],
    calibration: dsl.Input[dsl.Dataset],
    config: str,
    run: str,
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Train a model, by default against the attack it will be measured with.

    Args:
        dataset: Records to learn from, as filter_poison kept them.
        calibration: Trusted records; the first 16 become the golden inputs of the model folder.
        config: Canonical JSON of the section ``train`` of assay.yaml; empty for the defaults.
        run: Id of the pipeline run.
        model: Model folder: model.json, weights.safetensors, golden.parquet.
        metrics: Final loss and accuracy (for a regression the mean absolute error) on the training records.
    """
    from pathlib import Path

    from assay.config.base import parse_json
    from assay.config.train import TrainConfig
    from assay.train.step import train

    settings = parse_json(TrainConfig, config, "train")
    result = train(Path(dataset.path), settings, model=Path(model.path), calibration=Path(calibration.path), run=run)
    model.metadata |= {"digest": result["model"]["digest"], "dataset": result["dataset"]["digest"]}
    metrics.log_metric("final_loss", result["final_loss"])
    for name in sorted({"train_accuracy", "train_error"} & set(result)):
        metrics.log_metric(name, result[name]["value"])
