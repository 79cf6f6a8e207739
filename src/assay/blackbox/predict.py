"""A model that can only be asked, as a network without a gradient that counts what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from assay.errors import AssayError, UnfitInput

Answers = Literal["scores", "probabilities", "labels"]
LEAST_PROBABILITY = 1e-30
ROUNDING = 1e-3

__all__ = ["Answers", "Asked", "Predict", "Source"]


class Predict(Protocol):
    """Anything that answers.

    Call with:
        x: (N, ...) float32.

    Returns:
        (N, K) scores or probabilities, or (N,) labels; for two classes also (N,) or (N, 1), the second's probability;
        of a model of quantities (N,) or (N, 1).
    """

    def __call__(self, x: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """The answers."""
        ...


class Source(Predict, Protocol):
    """A model that can be asked, and what is known of it."""

    def describe(self) -> Mapping[str, Any]:
        """Plain data that names the model, for its digest and the evidence: the same for the same model."""
        ...


class Asked(nn.Module):
    """Logits (N, K) of whatever answers, or quantities (N, 1); no gradient, and no more queries than agreed.

    Probabilities become their logarithms, whose differences are those of logits; labels become 1 for the class and 0
    for the others. An answer that is NaN or infinite stays so: it is measured, as ``finite_logits``.

    Attributes:
        queries: rows asked so far.

    Raises:
        UnfitInput: answers of another shape, or not what they are said to be.
        AssayError: the query budget is spent.
    """

    def __init__(self, predict: Predict, classes: int, answers: Answers, most: int, batch_records: int = 256) -> None:
        super().__init__()
        self.predict, self.classes, self.answers = predict, classes, answers
        self.most, self.batch_records, self.queries = most, batch_records, 0
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The answers as logits; dtype and device of x."""
        if self.queries + len(x) > self.most:
            raise AssayError(
                "query budget", f"{self.queries + len(x)} queries", f"at most {self.most} for all records together"
            )
        self.queries += len(x)
        rows = np.ascontiguousarray(x.detach().cpu().numpy(), dtype=np.float32)
        parts = [rows[at : at + self.batch_records] for at in range(0, len(rows), self.batch_records)]
        read = [self._read(np.asarray(self.predict(part)), len(part)) for part in parts]
        logits = np.concatenate(read) if read else np.empty((0, self.classes))
        return torch.from_numpy(logits).to(x)

    def _read(self, got: npt.NDArray[Any], count: int) -> npt.NDArray[np.float64]:
        if got.dtype.kind not in "fiub":
            raise UnfitInput("black box", f"answers of type {got.dtype}", "numbers")
        if self.answers == "labels":
            return self._labels(got, count)
        given = got.astype(np.float64)
        if self.classes == 1 and given.shape == (count,):  # a quantity
            return given.reshape(count, 1)
        if self.answers == "probabilities" and self.classes == 2 and given.size == count:
            given = np.stack([1 - given.reshape(count), given.reshape(count)], axis=1)
        if given.shape != (count, self.classes):
            raise UnfitInput("black box", f"answers of shape {got.shape}", f"({count}, {self.classes})")
        return _logarithms(given) if self.answers == "probabilities" else given

    def _labels(self, got: npt.NDArray[Any], count: int) -> npt.NDArray[np.float64]:
        if got.size != count or got.shape[0] != count:
            raise UnfitInput("black box", f"labels of shape {got.shape}", f"({count},)")
        labels = got.reshape(count)
        known = np.isin(labels, np.arange(self.classes))
        if not known.all():
            raise UnfitInput(
                "black box", f"the label {labels[~known][0]}", f"a number of a class, below {self.classes}"
            )
        return np.asarray(np.eye(self.classes)[labels.astype(np.int64)])


def _logarithms(given: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    finite = np.isfinite(given).all(1)
    shares = given[finite]
    if (shares < -ROUNDING).any() or (np.abs(shares.sum(1) - 1) > ROUNDING).any():
        raise UnfitInput(
            "black box",
            "answers that are no probabilities",
            "shares that add up to 1",
            "Say black_box.answers: scores for a model that gives logits.",
        )
    with np.errstate(invalid="ignore"):
        return np.asarray(np.log(np.maximum(given, LEAST_PROBABILITY)))
