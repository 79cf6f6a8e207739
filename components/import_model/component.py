"""The KFP step ``import_model``: a model folder that another pipeline made."""

from kfp import dsl

from assay.components.authoring import component


@component
def import_model(uri: str, run: str, model: dsl.Output[dsl.Model]):
    """Copy a model folder into this run, after checking every byte and replaying its golden inputs.

    Args:
        uri: Path or file:// of a model folder that this pod can read.
        run: Id of the pipeline run.
        model: The same folder, same digest.
    """
    from pathlib import Path

    from assay.models.importing import import_model

    result = import_model(uri, model=Path(model.path), run=run)
    model.metadata |= {"digest": result["model"]["digest"]}
