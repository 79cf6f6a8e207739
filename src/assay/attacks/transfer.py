"""Transfer: an attack on another model, whose points are then tried on this one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from assay.attacks.best import Best
from assay.attacks.geometry import random_start, require_fit
from assay.attacks.pgd import PGD
from assay.attacks.sparse_pgd import SparsePGD
from assay.errors import UnfitInput
from assay.models.folder import LoadedModel, load_model
from assay.threat import NORMS, Norm, ThreatModel

__all__ = ["Transfer"]


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """An attack on a surrogate: a small network that learns the model's answers around the records, or a given model.

    The surrogate has gradients whatever the model does with its own. What breaks the surrogate and the model is found
    by asking the model for logits alone, so it is of use where a model hides its gradients, or has none. By itself it
    is weak: on a model with honest gradients it never finds more than what follows them, or those were not followed.

    Fields:
        hidden: width of the one hidden layer of a surrogate that is trained here.
        epochs: steps of Adam, each on all records moved at random inside the ball.
        steps: of PGD on the surrogate; of sparse PGD for ``l0``.
        surrogate: folder of a model of the same input and classes, instead of training one. Empty for none.
        digest: SHA-256 of that folder's model; needed with ``surrogate``, so that the settings say which model it was.

    Call with: as PGD.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; margin never below that of x.

    Raises:
        UnfitInput: x leaves the box, the model is in training mode, or the surrogate is another model than ``digest``
            says, or has other inputs or classes.

    References: Papernot et al. Practical Black-Box Attacks against Machine Learning. AsiaCCS 2017. arXiv:1602.02697.
        Papernot, McDaniel and Goodfellow. Transferability in Machine Learning. 2016. arXiv:1605.07277.
    """

    hidden: int = 64
    epochs: int = 60
    steps: int = 20
    surrogate: str = ""
    digest: str = ""

    norms: ClassVar[tuple[Norm, ...]] = NORMS
    gradient_free: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.hidden, self.epochs, self.steps) < 1:
            got = f"hidden {self.hidden}, epochs {self.epochs}, steps {self.steps}"
            raise UnfitInput("attacks.transfer", got, "all at least 1")
        if bool(self.surrogate) != bool(self.digest):
            got = f"surrogate {self.surrogate!r}, digest {self.digest!r}"
            raise UnfitInput("attacks.transfer", got, "both or neither", "It is the subject `model` of its evidence.")

    @property
    def queries(self) -> int:
        """Forward passes that a record which stands costs, beside the first and the last."""
        return 1 if self.surrogate else self.epochs

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        require_fit(model, x, y, threat, self.norms)
        x = x.detach()
        best = Best(model, x, y, "margin")
        if len(x):
            other = self._other(model, best, x, threat, generator)
            attack = (SparsePGD if threat.norm == "l0" else PGD)(steps=self.steps, restarts=1, loss="margin")
            best.look(attack(other, x, y, threat, generator=generator))
        return best.x_adv

    def _other(
        self, model: nn.Module, best: Best, x: torch.Tensor, threat: ThreatModel, generator: torch.Generator
    ) -> nn.Module:
        classes = best.logits.shape[1]
        if not self.surrogate:
            with torch.enable_grad():
                return self._learn(model, classes, x, threat, generator)
        given = _given(self.surrogate, self.digest)
        its, ours = (given.spec.input_shape, len(given.spec.classes)), (tuple(x.shape[1:]), classes)
        if its != ours:
            got, need = (f"inputs of shape {shape}, {count} classes" for shape, count in (its, ours))
            raise UnfitInput(f"surrogate {self.surrogate}", got, f"{need}, as the model")
        return given.module.to(x).eval().requires_grad_(False)

    def _learn(
        self, model: nn.Module, classes: int, x: torch.Tensor, threat: ThreatModel, generator: torch.Generator
    ) -> nn.Module:
        widths = ((x[0].numel(), self.hidden), (self.hidden, classes))
        layers = [nn.utils.skip_init(nn.Linear, *pair) for pair in widths]  # type: ignore[no-untyped-call]
        for layer in layers:
            drawn = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.data = drawn * (2 / layer.in_features) ** 0.5
            layer.bias.data.zero_()
        surrogate = nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1])
        surrogate.to(x)
        optimizer = torch.optim.Adam(surrogate.parameters(), lr=5e-3, foreach=True)
        for _ in range(self.epochs):
            at = random_start(threat, x, generator)
            with torch.no_grad():
                answer = torch.nan_to_num(model(at)).softmax(1)
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(surrogate(at), answer))
            optimizer.step()
        return surrogate.eval().requires_grad_(False)


@lru_cache(maxsize=4)
def _given(folder: str, digest: str) -> LoadedModel:
    loaded = load_model(Path(folder))
    if loaded.digest != digest:
        raise UnfitInput(f"surrogate {folder}", f"the model {loaded.digest}", f"{digest}, as the settings say")
    return loaded
