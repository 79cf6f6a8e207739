"""Two Gaussian classes in a few features and a linear model: the whole path in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from assay.data.records import RecordId
from assay.examples.batches import VENDORS, Planted, deal, write_batch, write_config

__all__ = ["Tiny"]


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """A table of ``records`` rows from three vendors and a trusted source.

    Fields:
        records: in all.
        trusted: of the trusted source.
        planted: rows of the last vendor with a value no honest row has, for sanitize to find.
        seed: of everything.
        batch: name of every source's batch; other settings need another name, for a name is taken for ever.
    """

    records: int = 120
    trusted: int = 60
    planted: int = 3
    seed: int = 0
    batch: str = "2026-10"

    def write(self, folder: Path) -> tuple[Path, Planted]:
        """Write batches and ``assay.yaml``; returns its path and the planted records."""
        generator = np.random.default_rng(self.seed)
        labels = np.arange(self.records, dtype=np.int64) % 2
        x = np.clip(0.25 + 0.5 * labels[:, None] + 0.08 * generator.standard_normal((self.records, 4)), 0, 1)
        planted: Planted = ()
        for source, rows in deal(self.records, self.trusted, generator).items():
            values = x[rows].copy()
            if source == VENDORS[-1]:
                values[: self.planted, 0] = np.nan
                planted = tuple(RecordId(source, self.batch, row) for row in range(self.planted))
            columns = {f"f{index}": pa.array(values[:, index]) for index in range(values.shape[1])}
            write_batch(folder, source, self.batch, columns, labels[rows])
        return write_config(folder, self.batch, self._sections()), planted

    def _sections(self) -> dict[str, object]:
        return {
            "ingest": {"classes": ["0", "1"]},
            "sanitize": {
                "suite": [
                    {
                        "type": "expect_column_values_to_be_between",
                        "kwargs": {"column": "f0", "min_value": 0, "max_value": 1},
                    }
                ]
            },
            "filter": {"detectors": {"spectral": {}}, "permutations": 199, "epochs": 4},
            "train": {
                "model": {"name": "linear"},
                "method": {"name": "cross_entropy"},
                "threat": "linf:0.05",
                "epochs": 20,
                "batch_size": 16,
                "learning_rate": 0.05,
                "threads": 1,
            },
            "evaluate": {
                "threats": ["linf:0.05"],
                "attacks": {"fgsm": {}, "pgd": {"steps": 10, "restarts": 1}},
                "threads": 1,
            },
            "policy": {
                "rules": [
                    {"rule": "at_least", "estimate": "clean_accuracy", "value": 0.7},
                    {"rule": "at_least", "estimate": "robust_accuracy", "threat": "linf:0.05", "value": 0.6},
                ]
            },
            "promote": {"model": "tiny", "alias": "champion"},
        }
