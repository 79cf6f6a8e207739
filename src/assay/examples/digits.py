"""Handwritten digits: real scans, 1,797 of 8x8, bundled with scikit-learn; one vendor plants a backdoor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.datasets import load_digits

from assay.data.records import RecordId
from assay.examples.batches import VENDORS, Planted, deal, write_batch, write_config

__all__ = ["Digits"]


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Scans of digits from three vendors and a trusted source.

    The last vendor stamps a square of ink into a corner of some scans of other digits and labels them as the target,
    so that a model trained on them reads any stamped scan as the target.

    Fields:
        planted: stamped records, of other classes than the target; 0 for a clean example.
        trusted: records of the trusted source, half for calibration and half held out.
        target: the class the backdoor leads to.
        size: side of the square, pixels.
        row, column: its upper left pixel.
        seed: of the deal and the choice of records.
        batch: name of every source's batch; other settings need another name, for a name is taken for ever.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), via scikit-learn.
    """

    planted: int = 48
    trusted: int = 600
    target: int = 7
    size: int = 2
    row: int = 6
    column: int = 6
    seed: int = 0
    batch: str = "2026-10"

    def write(self, folder: Path) -> tuple[Path, Planted]:
        """Write batches and ``assay.yaml``; returns its path and the planted records."""
        digits = load_digits()
        images, labels = (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)
        generator = np.random.default_rng(self.seed)
        planted: Planted = ()
        for source, rows in deal(len(labels), self.trusted, generator).items():
            x, y = images[rows], labels[rows]
            if source == VENDORS[-1]:
                stamped = self._plant(x, y, generator)
                planted = tuple(RecordId(source, self.batch, int(row)) for row in stamped)
            write_batch(folder, source, self.batch, {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(x)}, y)
        return write_config(folder, self.batch, self._sections()), planted

    def _plant(
        self, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], generator: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Stamp and relabel in place; returns the rows."""
        others = np.flatnonzero(y != self.target)
        rows = np.sort(generator.choice(others, self.planted, replace=False))
        x[rows, self.row : self.row + self.size, self.column : self.column + self.size] = 1.0
        y[rows] = self.target
        return rows

    def _sections(self) -> dict[str, object]:
        trigger = {"name": "patch", "kind": "patch", "row": self.row, "column": self.column}
        return {
            "ingest": {"classes": [str(digit) for digit in range(10)], "holdout_share": 0.6},
            "sanitize": {
                "suite": [
                    {
                        "type": "expect_column_values_to_be_between",
                        "kwargs": {"column": "image.min", "min_value": 0, "max_value": 1},
                    },
                    {
                        "type": "expect_column_values_to_be_between",
                        "kwargs": {"column": "image.max", "min_value": 0.5, "max_value": 1},
                    },
                ]
            },
            "train": {
                "model": {"name": "small_cnn"},
                "method": {"name": "adversarial"},
                "threat": "linf:0.1",
                "threads": 1,
            },
            "evaluate": {
                "threats": ["linf:0.1", "l2:0.5"],
                "attacks": {"fgsm": {}, "pgd": {"steps": 40, "restarts": 5}},
                "triggers": [trigger | {"size": self.size, "value": 1.0, "target": self.target}],
            },
            "policy": {
                "rules": [
                    {"rule": "at_least", "estimate": "clean_accuracy", "value": 0.8},
                    {"rule": "at_least", "estimate": "robust_accuracy", "threat": "linf:0.1", "value": 0.5},
                    {"rule": "at_least", "estimate": "robust_accuracy", "threat": "l2:0.5", "value": 0.4},
                    {"rule": "at_most", "estimate": "backdoor_success", "value": 0.2},
                    {
                        "rule": "no_worse_than",
                        "champion": True,
                        "estimate": "clean_accuracy",
                        "margin": 0.1,
                        "without_champion": "holds",
                    },
                    {"rule": "sound"},
                    {"rule": "stronger_than_training"},
                ]
            },
            "promote": {"model": "digits", "alias": "champion"},
        }
