"""``model.json``: what a model folder holds, read and checked without torch.

A model is a folder of exactly three files: ``model.json``, ``weights.safetensors`` and ``golden.parquet``.
``model.json`` is canonical JSON, carries the SHA-256 of the other two and, in ``checksum``, of itself without that
field: a folder with any byte changed is no model. That finds damage. Who made the model is another question: a forger
can write a new checksum, but not a folder whose `model_digest` is the one that signed evidence names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic

from assay import canonical
from assay.config.base import Section, parse
from assay.errors import UnfitInput

SCHEMA = "assay.model"
SPEC, WEIGHTS, GOLDEN = "model.json", "weights.safetensors", "golden.parquet"
FILES = frozenset({SPEC, WEIGHTS, GOLDEN})

Digest = pydantic.Field(pattern=r"^[0-9a-f]{64}$")

__all__ = [
    "Architecture",
    "ModelSpec",
    "Preprocessing",
    "Trained",
    "model_digest",
    "model_files",
    "read_spec",
    "recorded_files",
    "spec_bytes",
]


class Architecture(Section):
    """How to build the network.

    Fields:
        name: member of ``models``, or ``package.module:Class``, which a loader accepts only when its caller allows it.
        settings: fields of the member.
    """

    name: str = pydantic.Field(min_length=1, max_length=256)
    settings: dict[str, Any] = pydantic.Field(default_factory=dict)


class Preprocessing(Section):
    """What the model does to its raw input first: ``(x - mean) / scale``.

    Fields:
        mean, scale: one value a channel of an image, or a column of a table; scales are above 0.
    """

    mean: tuple[float, ...] = pydantic.Field(min_length=1)
    scale: tuple[float, ...] = pydantic.Field(min_length=1)


class Trained(Section):
    """Where the weights come from.

    Fields:
        dataset, content_digest: manifest and content digest of the training records; empty for an imported model.
        method: member of ``train``, or ``imported``.
        threat: key of the threat model that the method defends against, or empty.
        config: the whole training configuration.
        code: digest of assay's code; image: the container image, or empty.
        machine: the machine kind on which equal inputs give equal weights.
    """

    dataset: str = ""
    content_digest: str = ""
    method: str
    threat: str = ""
    config: dict[str, Any] = pydantic.Field(default_factory=dict)
    code: str = ""
    image: str = ""
    machine: dict[str, str] = pydantic.Field(default_factory=dict)


class ModelSpec(Section):
    """The content of ``model.json``, without schema, file digests and checksum.

    Fields:
        architecture: how to build the network.
        input_shape: of one example: (columns,) or (channels, height, width).
        bounds: the box of valid inputs: least and greatest value of every feature.
        classes: names, in the order of the logits, at least two; none of a regression, whose one output is in units
            of the label.
        preprocessing: inside the model, so that attacks work on raw inputs.
        trained: where the weights come from.
    """

    architecture: Architecture
    input_shape: tuple[int, ...] = pydantic.Field(min_length=1, max_length=3)
    bounds: tuple[float, float] = (0.0, 1.0)
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    trained: Trained

    @property
    def regression(self) -> bool:
        """The model gives a quantity."""
        return not self.classes

    @property
    def outputs(self) -> int:
        """How many numbers the network gives of a record: one logit a class, or the quantity."""
        return len(self.classes) or 1

    @pydantic.model_validator(mode="after")
    def _fits(self) -> ModelSpec:
        channels = self.input_shape[0]
        if len(self.classes) == 1:
            raise ValueError("classes are at least two, or none for a regression")
        if len(self.input_shape) == 2 or min(self.input_shape) < 1:
            raise ValueError("input_shape is (columns,) or (channels, height, width), each at least 1")
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError("bounds are two values, the least first")
        if {len(self.preprocessing.mean), len(self.preprocessing.scale)} != {channels}:
            raise ValueError(f"preprocessing needs {channels} means and scales, one a channel or column")
        if not min(self.preprocessing.scale) > 0:
            raise ValueError("every scale is above 0")
        return self


class _Document(ModelSpec):
    schema_: str = pydantic.Field(alias="schema", pattern=rf"^{SCHEMA}/v1$")
    weights_sha256: str = Digest
    golden_sha256: str = Digest
    checksum: str = Digest


def spec_bytes(spec: ModelSpec, weights: bytes, golden: bytes) -> bytes:
    """The bytes of ``model.json`` for a spec and the bytes of the two other files."""
    document = spec.to_json() | {
        "schema": f"{SCHEMA}/v1",
        "weights_sha256": canonical.sha256(weights),
        "golden_sha256": canonical.sha256(golden),
    }
    return canonical.dumps(document | {"checksum": canonical.digest(document)})


def read_spec(path: Path | str) -> ModelSpec:
    """The spec of a model folder, after checking every byte of the folder; nothing is loaded.

    Raises:
        UnfitInput: no such folder, a file too many or too few, a link, a changed byte, an unknown or missing key.
    """
    folder = Path(path)
    files = canonical.tree_files(folder)
    _require_files(folder, set(files))
    document = canonical.read(folder / SPEC)
    canonical.require_schema(document, SCHEMA, str(folder / SPEC))
    parsed = parse(_Document, document, str(folder / SPEC))
    body = {key: value for key, value in document.items() if key != "checksum"}
    found = {
        f"{SPEC}: checksum": (canonical.digest(body), parsed.checksum),
        SPEC: (files[SPEC], canonical.digest(document)),
        WEIGHTS: (files[WEIGHTS], parsed.weights_sha256),
        GOLDEN: (files[GOLDEN], parsed.golden_sha256),
    }
    for name, (got, need) in found.items():
        if got != need:
            raise UnfitInput(
                str(folder / name),
                f"SHA-256 {got[:12]}",
                need[:12],
                "The model changed after it was written; train or import it again.",
            )
    return ModelSpec.model_construct(**{name: getattr(parsed, name) for name in ModelSpec.model_fields})


def recorded_files(path: Path | str) -> dict[str, str]:
    """Name and SHA-256 of each file as ``model.json`` says them: what `read_spec` has just checked, hashed no twice."""
    document = canonical.read(Path(path) / SPEC)
    weights, golden = document["weights_sha256"], document["golden_sha256"]
    return {GOLDEN: golden, SPEC: canonical.digest(document), WEIGHTS: weights}


def model_files(path: Path | str) -> dict[str, str]:
    """Name and SHA-256 of each of the three files of a model folder."""
    folder = Path(path)
    files = canonical.tree_files(folder)
    _require_files(folder, set(files))
    return files


def model_digest(path: Path | str) -> str:
    """The digest that names a model: of the names and contents of its folder."""
    return canonical.tree_digest(model_files(path))


def _require_files(folder: Path, got: set[str]) -> None:
    if got != FILES:
        raise UnfitInput(f"model {folder}", f"the files {sorted(got)}"[:400], f"exactly {sorted(FILES)}")
