"""One patch for every picture: what a sticker does to a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from assay.attacks.objective import log_odds
from assay.errors import UnfitInput, UnknownName
from assay.estimate import Estimate
from assay.evaluate.aspects.scene import Found, Scene
from assay.evaluate.ladder import right
from assay.evaluate.stickers import laid, placements
from assay.intervals import bounded_mean
from assay.models.fit import generator_for
from assay.report import html, plots

BATCH = 64

__all__ = ["Patch"]


@dataclass(frozen=True, kw_only=True)
class Patch:
    """An adversarial patch: one square, made on half of the records, laid anywhere on the other half.

    Not a perturbation in a norm: the patch may hold any values of the box, but covers a small part. It is found by
    expectation over transformation: ascent on pictures that carry it at random places and, in the physical preset, at
    random angles (25 degrees either way), sizes and light (a fifth either way) and sharpness. It is made on even rows
    and measured on odd ones, at ``samples`` placements of each, so it was fixed before.

    - ``patched_accuracy[area=<area>]``: the mean share of placements at which a record is right.
    - ``occluded_accuracy[area=<area>]``: the same under a patch of noise: what hiding alone costs.
    - ``patch_success[area=<area>,target=<class>]``: for each target a patch of its own; of the records of other classes
      the mean share of placements at which they are called the target. An answer that is not finite counts.

    In the physical preset ``physical`` stands behind the area. A patch is what this search found: a better one may
    exist, so none of these numbers is a worst case.

    Fields:
        area: share of the picture that the upright patch covers.
        targets: classes to aim at, beside the patch that aims at none.
        physical: angle, size, light and sharpness are random too.
        steps: of Adam, from each start.
        restarts: noise to begin with; the patch that does most on the half it is made on is measured.
        rate: of Adam, in units of the width of the box.
        samples: placements of each record that is measured.

    References: Brown, Mane, Roy, Abadi and Gilmer. Adversarial Patch. 2017. arXiv:1712.09665. Athalye, Engstrom, Ilyas
        and Kwok. Synthesizing Robust Adversarial Examples. ICML 2018 (expectation over transformation).
        arXiv:1707.07397.
    """

    area: float = 0.06
    targets: tuple[str, ...] = ()
    physical: bool = False
    steps: int = 100
    restarts: int = 5
    rate: float = 0.05
    samples: int = 4

    def __post_init__(self) -> None:
        if not (0 < self.area <= 1 and self.rate > 0) or min(self.steps, self.restarts, self.samples) < 1:
            got = f"area {self.area}, steps {self.steps}, restarts {self.restarts}, rate {self.rate}"
            got += f", samples {self.samples}"
            raise UnfitInput("aspects.patch", got, "an area in (0, 1], a rate above 0, the others at least 1")

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        if scene.x.ndim != 4:
            raise UnfitInput("aspects.patch", f"records of shape {tuple(scene.x.shape[1:])}", "images")
        for name in self.targets:
            if name not in scene.spec.classes:
                raise UnknownName("class", name, scene.spec.classes)
        if len(scene.x) < 2:
            raise UnfitInput("aspects.patch", f"{len(scene.x)} records", "at least 2")
        named = f"area={self.area:g}" + (",physical" if self.physical else "")
        noise, untargeted = self._noise(scene), self._made(scene, None)
        found = {
            f"patched_accuracy[{named}]": self._measured(scene, untargeted, None),
            f"occluded_accuracy[{named}]": self._measured(scene, noise, None),
        }
        for name in self.targets:
            target = scene.spec.classes.index(name)
            found[f"patch_success[{named},target={name}]"] = self._measured(scene, self._made(scene, target), target)
        drawn = plots.intervals([plots.Interval.of(name, each) for name, each in found.items()], title="Under a patch")
        table = html.table(["estimate", "value", "records"], [(name, each, each.n) for name, each in found.items()])
        facts = {"patch_side": noise.shape[1]}
        return Found(found, html.section("Adversarial patch", html.figure(drawn), table), facts=facts)

    def _noise(self, scene: Scene, restart: int = 0) -> torch.Tensor:
        """(C, S, S): uniform noise, which every patch begins as."""
        low, high = scene.spec.bounds
        channels, height, width = scene.x.shape[1:]
        side = min(max(1, round((self.area * height * width) ** 0.5)), height, width)
        generator = generator_for(scene.plan.seed, "patch", "begin", restart)
        return (low + (high - low) * torch.rand(channels, side, side, generator=generator)).to(scene.x)

    def _made(self, scene: Scene, target: int | None) -> torch.Tensor:
        """Of the patches from every start the one that does most on the even rows, the first of equal ones."""
        made = [self._ascended(scene, target, restart) for restart in range(self.restarts)]
        hits = [self._share(scene, patch, target, slice(0, None, 2))[0] for patch in made]
        return made[hits.index(min(hits) if target is None else max(hits))]

    def _ascended(self, scene: Scene, target: int | None, restart: int) -> torch.Tensor:
        """The patch after the ascent on the even rows: towards a target, or away from the truth."""
        x, y, low, high = scene.x[::2], scene.y[::2], *scene.spec.bounds
        generator = generator_for(scene.plan.seed, "patch", "none" if target is None else target, restart)
        patch = nn.Parameter(self._noise(scene, restart))
        optimizer = torch.optim.Adam([patch], lr=self.rate * (high - low), foreach=False)
        for _ in range(self.steps):
            rows = torch.randperm(len(x), generator=generator)[:BATCH].to(x.device)
            at = placements(len(rows), _shape(x), patch.shape[1], self.physical, generator)
            with torch.enable_grad():
                logits = scene.model(laid(x[rows], patch, at, scene.spec.bounds))
                loss = log_odds(logits, y[rows]) if target is None else -log_odds(logits, 0 * y[rows] + target)
                (gradient,) = torch.autograd.grad(-loss.mean(), patch)
            patch.grad = torch.nan_to_num(gradient)
            optimizer.step()
            patch.data.clamp_(low, high)
        return patch.detach()

    def _measured(self, scene: Scene, patch: torch.Tensor, target: int | None) -> Estimate:
        """On the odd rows."""
        total, records = self._share(scene, patch, target, slice(1, None, 2))
        return bounded_mean(total, records, self.samples, 1, scene.confidence)

    def _share(self, scene: Scene, patch: torch.Tensor, target: int | None, rows: slice) -> tuple[int, int]:
        """Placements that are right or, with a target, called it; and of how many records, the target's left out."""
        x, y = scene.x[rows], scene.y[rows]
        if target is not None:
            x, y = x[y != target], y[y != target]
        generator = generator_for(scene.plan.seed, "patch", "measure", rows.start)
        total = 0
        for _ in range(self.samples):
            at = placements(len(x), _shape(x), patch.shape[1], self.physical, generator)
            copies = laid(x, patch, at, scene.spec.bounds)
            if target is None:
                total += int(right(scene.model, copies, y).sum())
            else:
                with torch.no_grad():
                    logits = scene.model(copies)
                total += int(((logits.argmax(1) == target) | ~logits.isfinite().all(1)).sum())
        return total, len(x)


def _shape(x: torch.Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]
