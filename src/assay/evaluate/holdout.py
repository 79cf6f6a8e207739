"""The records a model is measured on: whole, fit for the model, and not those it learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from assay import canonical
from assay.config.evaluate import EvaluateConfig
from assay.constraints import Constraints, bind
from assay.data.dataset import Dataset, features, labels, quantities
from assay.data.manifest import Manifest
from assay.data.parquet import table_in
from assay.data.place import folder_at
from assay.data.records import record_ids
from assay.errors import UnfitInput
from assay.ledger import Ledger
from assay.models.spec import ModelSpec

MAX_SET_BYTES = 2**36

__all__ = ["Holdout", "constraints_of", "read_holdout", "read_sets", "require_fit", "unseen"]


@dataclass(frozen=True)
class Holdout:
    """Records and their arrays.

    Fields:
        dataset: verified against its manifest.
        rows: positions in the dataset of the records that are measured, ascending.
        x: (N, ...) float32.
        y: (N,) int64; without meaning where the label is a quantity, see `targets`.
    """

    dataset: Dataset
    rows: npt.NDArray[np.int64]
    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]

    @property
    def targets(self) -> npt.NDArray[np.float64]:
        """The quantities of the records that are measured, (N,)."""
        return quantities(self.dataset)[self.rows]

    @property
    def record_ids(self) -> list[str]:
        """Of the records that are measured."""
        every = self.dataset.record_ids
        return [every[row] for row in self.rows]


def read_holdout(path: Path, limit: int, seed: int) -> Holdout:
    """Read a dataset; with a limit, so many of its records, drawn by the seed.

    Raises:
        UnfitInput: no records, or a folder that does not fit its manifest.
    """
    dataset = Dataset.load(path)
    if not len(dataset):
        raise UnfitInput(str(path), "no records", "at least one", "An empty hold-out measures nothing.")
    rows = np.arange(len(dataset))
    if 0 < limit < len(rows):
        rows = np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))
    if dataset.manifest.content.regression:
        return Holdout(dataset, rows, features(dataset)[rows], np.full(len(rows), -1))
    return Holdout(dataset, rows, features(dataset)[rows], labels(dataset)[rows])


def require_fit(holdout: Holdout, spec: ModelSpec, who: str = "model") -> None:
    """Check that a model speaks of these records.

    Raises:
        UnfitInput: another shape, other classes, or values outside the model's box.
    """
    classes = holdout.dataset.manifest.content.classes
    if spec.classes != classes:
        got, need = (", ".join(names)[:200] or "none, a model of quantities" for names in (spec.classes, classes))
        raise UnfitInput(f"{who}: classes", got, f"those of the records: {need}")
    _require_inside(holdout, spec, who, "hold-out")


def read_sets(sets: Mapping[str, str], spec: ModelSpec) -> dict[str, Holdout]:
    """Other records that the model can take, by name; of any classes.

    Raises:
        UnfitInput: no records, a folder that does not fit its manifest, another shape, or values outside the box.
        Unreachable: an object store does not answer.
    """
    found = {}
    for name, uri in sets.items():
        with folder_at(uri, f"evaluate.sets.{name}", MAX_SET_BYTES) as folder:
            found[name] = read_holdout(folder, 0, 0)
    for name, records in found.items():
        _require_inside(records, spec, "model", f"set {name}")
    return found


def _require_inside(holdout: Holdout, spec: ModelSpec, who: str, where: str) -> None:
    if holdout.x.shape[1:] != spec.input_shape:
        raise UnfitInput(f"{who}: input", str(tuple(spec.input_shape)), f"{holdout.x.shape[1:]}, as the records are")
    low, high = (np.float32(bound) for bound in spec.bounds)
    if not (holdout.x.min() >= low and holdout.x.max() <= high):  # a NaN is neither
        raise UnfitInput(
            where,
            f"values in [{holdout.x.min():.6g}, {holdout.x.max():.6g}]",
            f"finite values in the box of the {who}, {list(spec.bounds)}",
        )


def constraints_of(config: EvaluateConfig, holdout: Holdout) -> Constraints | None:
    """The declared constraints on the columns of the records, with the spread of each column over the whole hold-out.

    Raises:
        UnknownName: a column that the records do not have.
        UnfitInput: images, or a record that is not what the declaration says of every row: a ball around it would hold
            no row to compare it with.
    """
    if config.constraints is None:
        return None
    if holdout.x.ndim != 2:
        raise UnfitInput("evaluate.constraints", f"records of shape {holdout.x.shape[1:]}", "a table")
    spread = features(holdout.dataset).astype(np.float64).std(axis=0)
    constraints = bind(config.constraints, holdout.dataset.feature_names, spread)
    for reason, at_fault in constraints.faults(holdout.x).items():
        if at_fault.any():
            first = holdout.record_ids[int(np.flatnonzero(at_fault)[0])]
            raise UnfitInput(
                "hold-out",
                f"{int(at_fault.sum())} records with {reason}, the first {first}",
                "records that keep to the constraints",
                "Let sanitize quarantine them, or correct the declaration.",
            )
    return constraints


def unseen(holdout: Holdout, trained_on: str, ledger: Ledger) -> str:
    """Whether the model learned from none of these records: ``holds``, ``misses``, or ``not_measured``.

    Read from the ledger's list of the records of the training dataset; a model that was trained elsewhere has none.
    """
    try:
        manifest = Manifest.from_json(canonical.loads(ledger.get(f"manifests/{trained_on}.json")))
        data = ledger.get(f"records/{manifest.content_digest}.parquet")
    except UnfitInput:
        return "not_measured"
    learned = set(record_ids(table_in(data)))
    return "misses" if learned.intersection(holdout.record_ids) else "holds"
