"""What an attack ascends: a number per example that is larger the more wrong the model is."""

from __future__ import annotations

from typing import Literal

import torch

Loss = Literal["ce", "margin", "dlr", "probability"]
LOSSES: tuple[Loss, ...] = ("ce", "margin", "dlr", "probability")

__all__ = ["LOSSES", "Loss", "aimed", "dlr", "fooled", "log_odds", "margin", "objective", "probability_margin"]


def objective(loss: Loss, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The loss by name, (N,): ``ce`` is `log_odds`, ``probability`` is `probability_margin`, the others as they are."""
    return {"ce": log_odds, "margin": margin, "dlr": dlr, "probability": probability_margin}[loss](logits, y)


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


def dlr(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Difference of logits ratio, (N,): the margin in units of the gap from the greatest to the third logit.

    Neither a shift nor a scale of the logits changes it. With two classes there is no third logit; the margin stands
    in, whose direction of steepest ascent no scale changes either.

    Reference: Croce and Hein. Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
        Attacks. ICML 2020, eq. 6. arXiv:2003.01690.
    """
    return _in_units(margin(logits, y), logits)


def probability_margin(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Greatest other probability minus that of the true class, (N,) in [-1, 1].

    Reference: Xie et al. Towards Million-Scale Adversarial Robustness Evaluation With Stronger Individual Attacks.
        CVPR 2025 (the loss of PMA). arXiv:2411.15210.
    """
    return margin(logits.softmax(dim=1), y)


def aimed(loss: Loss, logits: torch.Tensor, y: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The loss towards one wrong class, (N,): ``margin`` is the gap from the true logit to the target's.

    ``dlr`` divides it by the gap from the greatest logit to the mean of the third and fourth (eq. 7 of Croce and Hein),
    with three classes to the third, with two by nothing.
    """
    gap = logits.gather(1, target[:, None]).squeeze(1) - _true(logits, y)
    if loss == "margin":
        return gap
    if logits.shape[1] < 4:
        return _in_units(gap, logits)
    top = logits.topk(4, dim=1).values
    return gap / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp_min(torch.finfo(logits.dtype).tiny)


def fooled(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Where the predicted class is not the true one, (N,) bool; logits that are not finite predict nothing."""
    return (logits.argmax(dim=1) != y) | ~torch.isfinite(logits).all(dim=1)


def _in_units(gap: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Over the distance from the greatest to the third logit; as it is where there is no third."""
    if logits.shape[1] < 3:
        return gap
    top = logits.topk(3, dim=1).values
    return gap / (top[:, 0] - top[:, 2]).clamp_min(torch.finfo(logits.dtype).tiny)


def _true(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return logits.gather(1, y[:, None]).squeeze(1)


def _others(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return logits.scatter(1, y[:, None], -torch.inf)
