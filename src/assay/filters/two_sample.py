"""Do a source's inputs lie elsewhere than those of the other sources, within a class?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from assay.data.held import row_blocks
from assay.errors import UnfitInput
from assay.filters import Floats, Labels
from assay.filters._linear import by_class, checked
from assay.filters._shift import Shift, whitening
from assay.filters.features import HeldSpace, Made, Space, View

TRUSTED = -1

__all__ = ["TwoSample"]


@dataclass(frozen=True, kw_only=True)
class TwoSample:
    """How far a record lies in the direction in which its own origin's mean differs from that of the others.

    A few planted records move the mean of all that a source has of the class. No network had a part in it and no label
    but the class itself, so that under the hypothesis of `assay.filters.decide` the level is exact. An honest source
    whose pictures are brighter or sharper moves its means as well, in every class: what is said of one source in
    several classes is set aside there, and with it what is said of the others, which were compared with it.

    Reference: Hotelling 1931; see `assay.filters._shift`.
    """

    space: ClassVar[str] = "inputs"
    needs_trusted: ClassVar[bool] = False
    floor: ClassVar[float] = float("-inf")
    dispersion: ClassVar[float] = 1.0
    reason: ClassVar[str] = "source_shift"

    def suspicion(
        self,
        features: Floats,
        labels: Labels,
        *,
        trusted_features: Floats | None = None,
        trusted_labels: Labels | None = None,
        origins: Sequence[str] | None = None,
    ) -> Floats:
        """Scores (N,) of features (N, D), in spreads within the class; 0 where there is nothing to compare with.

        Without ``origins``, one a record, all are of one, and only the trusted records are of another.
        """
        x, y = checked(features, labels)
        known = np.empty((0, x.shape[1])) if trusted_features is None else np.asarray(trusted_features, np.float64)
        answers = np.empty(0, np.int64) if trusted_labels is None else trusted_labels
        return self.scores(self.whitened(Space(x, known), y, answers), y, answers, origins or [""] * len(y))[0]

    def whitened(self, view: View, labels: Labels, trusted_labels: Labels) -> View:
        """The rows of a view, whitened within classes when they are asked for; see `assay.filters._shift.whitening`."""
        shape = (len(view.records), view.trusted.shape[1])

        def blocks() -> Iterator[tuple[npt.NDArray[Any], Labels]]:
            yield from ((view.records[rows], labels[rows]) for rows in row_blocks(shape))
            yield view.trusted, trusted_labels

        turned = whitening(blocks(), shape[1])
        return HeldSpace(Made(view.records, turned), turned(view.trusted))

    def scores(
        self, whitened: View, labels: Labels, trusted_labels: Labels, origins: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """Scores (N,) of whitened rows, and (T,) of the trusted ones as an origin of their own; a class at a time."""
        if len(origins) != len(labels):
            raise UnfitInput("origins", f"{len(origins)}", f"{len(labels)}, one a record")
        names, codes = np.unique(np.asarray(origins, dtype=str), return_inverse=True)
        found, of_trusted = np.zeros(len(labels)), np.zeros(len(trusted_labels))
        for label, rows in by_class(labels):
            clean = np.flatnonzero(trusted_labels == label)
            shift = Shift.of(np.concatenate([whitened.records[rows], whitened.trusted[clean]]))
            code = np.concatenate([codes[rows], np.full(len(clean), TRUSTED)])
            for origin in range(TRUSTED, len(names)):
                own = code == origin
                if own.any() and not own.all():
                    along = shift.along(own, ~own)
                    found[rows[own[: len(rows)]]] = along[: len(rows)][own[: len(rows)]]
                    of_trusted[clean[own[len(rows) :]]] = along[len(rows) :][own[len(rows) :]]
        return found, of_trusted
