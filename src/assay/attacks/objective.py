"""What an attack ascends: a number per example that is larger the more wrong the model is."""

from __future__ import annotations

from typing import Literal

import torch

Loss = Literal["ce", "margin"]

__all__ = ["Loss", "fooled", "log_odds", "margin", "objective"]


def objective(loss: Loss, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The loss by name, (N,): ``ce`` is `log_odds`, ``margin`` is `margin`."""
    return log_odds(logits, y) if loss == "ce" else margin(logits, y)


def log_odds(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Log odds against the true class, (N,): log(1 - p_y) - log(p_y).

    Cross-entropy is softplus of it, so both have the same order and the same direction of steepest ascent per example.
    But the gradient of cross-entropy vanishes where a model is very sure (p_y rounds to 1), which lets a model that
    merely multiplies its logits look robust; this one does not.
    """
    return torch.logsumexp(_others(logits, y), dim=1) - _true(logits, y)


def margin(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Greatest other logit minus that of the true class, (N,); above 0 exactly where the model is wrong.

    Reference: Carlini and Wagner. Towards Evaluating the Robustness of Neural Networks. S&P 2017. arXiv:1608.04644.
    """
    return _others(logits, y).amax(dim=1) - _true(logits, y)


def fooled(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Where the predicted class is not the true one, (N,) bool; logits that are not finite predict nothing."""
    return (logits.argmax(dim=1) != y) | ~torch.isfinite(logits).all(dim=1)


def _true(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return logits.gather(1, y[:, None]).squeeze(1)


def _others(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return logits.scatter(1, y[:, None], -torch.inf)
