"""The model folder: written whole, read with suspicion. Nothing in it is ever unpickled.

Reading goes from cheap to dear: names and digests of the files, the strict ``model.json``, the size of the weights and
their names, types and shapes against the architecture built without memory, finite values, and last the golden replay:
the model must give the logits that it gave when it was written.
"""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from assay.data.files import whole_folder
from assay.errors import Refused, UnfitInput
from assay.models.assemble import Classifier, assemble
from assay.models.spec import GOLDEN, SPEC, WEIGHTS, ModelSpec, model_digest, read_spec, spec_bytes

Reader = Callable[[Path, int], dict[str, torch.Tensor]]

GOLDEN_RECORDS = 16
GOLDEN_TOLERANCE = 1e-4
MAX_HEADER_BYTES = 2**20

__all__ = ["GOLDEN_RECORDS", "GOLDEN_TOLERANCE", "LoadedModel", "load_model", "read_weights", "save_model"]


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be measured.

    Fields:
        module: raw inputs (N, *input_shape) to logits (N, K), or quantities (N, 1); float32, on the CPU, in eval mode,
            parameters frozen.
        spec: the content of ``model.json``.
        digest: of the folder.
    """

    module: Classifier
    spec: ModelSpec
    digest: str


def save_model(path: Path | str, module: Classifier, spec: ModelSpec, golden: npt.NDArray[np.float32]) -> str:
    """Write a model folder whole; returns its digest.

    Args:
        path: of the folder; one that holds the same bytes already is left as it is.
        module: float32, on any device, in any mode; not modified.
        spec: agrees with the module.
        golden: (M, *input_shape) raw inputs, at least one; the first 16 are kept with their logits.

    Raises:
        UnfitInput: weights or logits that are not finite, no golden inputs, or a folder with other content.
    """
    if not len(golden) or golden.shape[1:] != spec.input_shape:
        raise UnfitInput("golden inputs", f"shape {golden.shape}", f"(at least 1, *{spec.input_shape})")
    frozen = copy.deepcopy(module).cpu().eval()
    state = {name: tensor.detach().contiguous() for name, tensor in frozen.network.state_dict().items()}
    _require_finite(state, "weights")
    weights, replay = save_safetensors(state), _golden_bytes(frozen, golden[:GOLDEN_RECORDS])
    with whole_folder(path) as folder:
        (folder / WEIGHTS).write_bytes(weights)
        (folder / GOLDEN).write_bytes(replay)
        (folder / SPEC).write_bytes(spec_bytes(spec, weights, replay))
    return model_digest(path)


def load_model(path: Path | str, *, allowed: Collection[str] = ()) -> LoadedModel:
    """Read a model folder and prove that it still is the model that was written.

    Args:
        path: of the folder.
        allowed: import paths of architectures that the folder may name beside the members of ``models``.

    Raises:
        UnfitInput: a file too many, too few or changed; weights of other names, types or shapes, or not finite.
        Refused: other logits than when it was written, or an import path that is not allowed.
    """
    folder = Path(path)
    digest, spec = model_digest(folder), read_spec(folder)
    module = read_weights(folder / WEIGHTS, spec, allowed=allowed)
    _replay(module, spec, folder / GOLDEN)
    if model_digest(folder) != digest:
        raise Refused(f"model {folder}", "other bytes than when reading began", "a folder that nobody writes to")
    return LoadedModel(module, spec, digest)


def read_weights(
    path: Path, spec: ModelSpec, *, allowed: Collection[str] = (), read: Reader | None = None
) -> Classifier:
    """The network of a spec with the weights of a file; in eval mode, parameters frozen.

    The architecture is built without memory first, and a file of another size is not read.

    Args:
        path: of the file.
        spec: says the architecture.
        allowed: import paths that it may name.
        read: the tensors of a file, given how many bytes they may have; by default those of a safetensors file.

    Raises:
        UnfitInput: no such file, or weights that are not exactly the architecture's, and finite.
    """
    with torch.device("meta"):
        blank = assemble(spec, allowed=allowed).network.state_dict()
    state = (read or _read_tensors)(path, sum(tensor.nbytes for tensor in blank.values()))
    _require_same(state, blank, str(path))
    _require_finite(state, str(path))
    module = assemble(spec, allowed=allowed)
    module.network.load_state_dict(state)
    return module.eval().requires_grad_(False)


def _read_tensors(path: Path, size_bytes: int) -> dict[str, torch.Tensor]:
    try:
        got = path.stat().st_size
        if not size_bytes <= got <= size_bytes + MAX_HEADER_BYTES:
            raise UnfitInput(str(path), f"{got} bytes", f"the architecture's {size_bytes} and a header")
        return dict(load_safetensors(path.read_bytes()))
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise UnfitInput(str(path), f"{type(error).__name__}: {error}", "a safetensors file") from error


def _require_same(got: Mapping[str, torch.Tensor], need: Mapping[str, torch.Tensor], where: str) -> None:
    def kinds(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
        return {name: f"{tensor.dtype} {tuple(tensor.shape)}" for name, tensor in state.items()}

    here, there = kinds(got), kinds(need)
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            raise UnfitInput(f"{where}: tensor {name!r}", here.get(name, "none"), there.get(name, "no such tensor"))


def _require_finite(state: Mapping[str, torch.Tensor], where: str) -> None:
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise UnfitInput(f"{where}: tensor {name!r}", "values that are not finite", "finite weights")


def _logits(module: Classifier, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        logits: npt.NDArray[np.float32] = module(torch.from_numpy(inputs.copy())).numpy()
    return logits


def _golden_bytes(module: Classifier, inputs: npt.NDArray[np.float32]) -> bytes:
    logits = _logits(module, inputs)
    if not np.isfinite(logits).all():
        raise UnfitInput("golden logits", "values that are not finite", "finite logits of finite inputs")
    columns = {"input": inputs.reshape(len(inputs), -1), "logits": logits}
    table = pa.table(
        {
            name: pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float32()), values.shape[1])
            for name, values in columns.items()
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _read_golden(path: Path, spec: ModelSpec) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    widths = {"input": math.prod(spec.input_shape), "logits": spec.outputs}
    schema = pa.schema([(name, pa.list_(pa.float32(), width)) for name, width in widths.items()])
    try:
        file = pq.ParquetFile(path)
        if not file.schema_arrow.equals(schema) or not 1 <= file.metadata.num_rows <= GOLDEN_RECORDS:
            raise UnfitInput(str(path), str(file.schema_arrow)[:200], f"1 to {GOLDEN_RECORDS} rows of {widths}")
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise UnfitInput(
            str(path), f"{type(error).__name__}: {error}", "a Parquet file of inputs and logits"
        ) from error
    inputs, logits = (
        table[name].combine_chunks().flatten().to_numpy().reshape(-1, width) for name, width in widths.items()
    )
    return inputs.reshape(-1, *spec.input_shape), logits


def _replay(module: Classifier, spec: ModelSpec, path: Path) -> None:
    inputs, recorded = _read_golden(path, spec)
    replayed = _logits(module, inputs)
    limit = GOLDEN_TOLERANCE * np.maximum(1, np.abs(recorded).max(axis=1, keepdims=True))
    close = np.abs(replayed - recorded) <= limit
    if not close.all() or not (replayed.argmax(1) == recorded.argmax(1)).all():
        raise Refused(
            str(path),
            f"logits up to {np.abs(replayed - recorded).max():.3g} away from those recorded",
            f"the same class, and logits within {GOLDEN_TOLERANCE} (of their greatest size, above 1)",
            "The pipeline that computes the model is broken, or the folder was put together from two models.",
        )
