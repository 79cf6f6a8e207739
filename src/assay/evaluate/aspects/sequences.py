"""Does the answer flicker while a picture changes a little at a time?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from assay.errors import UnfitInput, UnknownName
from assay.estimate import Estimate
from assay.evaluate.aspects.scene import Found, Scene
from assay.evaluate.corruptions.field import Images, grid, sampled, side
from assay.intervals import bounded_mean
from assay.report import html, plots

Ints = npt.NDArray[np.int64]
NOISY = ("gaussian_noise", "shot_noise")

__all__ = ["KINDS", "Sequences", "flips"]


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Perturbation sequences: how often the answer changes from one frame to the next.

    ``flip_rate[perturbation=<kind>]`` is the share of steps at which the predicted class is another than one frame
    before; of sequences of noise, which have no order, another than on the picture itself. ``flip_rate`` is the mean
    over all kinds. No label is looked at: a model that is always wrong in the same way does not flicker. An answer that
    is not finite counts as a class of its own at each frame.

    Fields:
        kinds: perturbations; empty for all.
        frames: of each sequence, the picture itself first.
        limit: records at most, the first of them; 0 for all.

    Reference: Hendrycks, Dietterich. Benchmarking Neural Network Robustness to Common Corruptions and Perturbations.
        ICLR 2019, section 4.2. arXiv:1903.12261.
    """

    kinds: tuple[str, ...] = ()
    frames: int = 11
    limit: int = 0

    def __post_init__(self) -> None:
        for name in self.kinds:
            if name not in KINDS:
                raise UnknownName("perturbation", name, KINDS)
        if self.frames < 2 or self.limit < 0:
            raise UnfitInput("aspects.sequences", f"frames {self.frames}, limit {self.limit}", "2 frames or more")

    def __call__(self, scene: Scene) -> Found:
        """Measure."""
        if scene.x.ndim != 4:
            raise UnfitInput("aspects.sequences", f"records of shape {tuple(scene.x.shape[1:])}", "images")
        count = min(self.limit or len(scene.x), len(scene.x))
        steps, totals = self.frames - 1, {}
        for name in self.kinds or tuple(KINDS):
            answers = np.concatenate([self._answers(scene, name, rows, seed) for rows, seed in _blocks(scene, count)])
            totals[name] = int(flips(answers, noisy=name in NOISY).sum())
        found = {"flip_rate": bounded_mean(sum(totals.values()), count, steps * len(totals), 1, scene.confidence)}
        found |= {
            f"flip_rate[perturbation={name}]": bounded_mean(total, count, steps, 1, scene.confidence)
            for name, total in totals.items()
        }
        return Found(found, _section(found), facts={"sequence_records": count})

    def _answers(self, scene: Scene, name: str, rows: slice, seed: int) -> Ints:
        """(N, frames) the predicted class; below 0 where an answer is not finite, another one at each frame."""
        low, high = scene.spec.bounds
        unit, frames = (scene.data.x[rows].astype(np.float64) - low) / (high - low), []
        for frame in range(self.frames):
            made = KINDS[name](unit, frame / (self.frames - 1), np.random.default_rng((seed, frame)))
            copies = np.clip(low + (high - low) * made, low, high).astype(np.float32)
            logits = scene.logits(scene.tensor(copies))
            frames.append(np.where(np.isfinite(logits).all(axis=1), logits.argmax(1), -1 - frame))
        return np.stack(frames, 1)


def flips(answers: Ints, *, noisy: bool) -> Ints:
    """(N,) of (N, frames): at how many frames the answer is not that of the one before, or, of noise, of the first."""
    changed = answers[:, 1:] != (answers[:, :1] if noisy else answers[:, :-1])
    return np.asarray(changed.sum(1))


def _blocks(scene: Scene, count: int) -> list[tuple[slice, int]]:
    made = [(rows, generator.initial_seed()) for _, rows, generator in scene.blocks("sequences")]
    return [(slice(rows.start, min(rows.stop, count)), seed) for rows, seed in made if rows.start < count]


def _section(found: dict[str, Estimate]) -> Markup:
    rows = [plots.Interval.of(name, each) for name, each in found.items()]
    drawn = plots.intervals(rows, title="Answers that change from frame to frame", axis="share of steps")
    table = html.table(["estimate", "value", "records"], [(name, each, each.n) for name, each in found.items()])
    return html.section("Perturbation sequences", html.figure(drawn), table)


def _translated(x: Images, share: float, rng: np.random.Generator) -> Images:
    rows, columns = grid(x)
    return sampled(x, rows, columns - 0.1 * side(x) * share)


def _turned(x: Images, share: float, rng: np.random.Generator) -> Images:
    rows, columns = grid(x)
    middle, angle = [(size - 1) / 2 for size in x.shape[2:]], np.radians(15 * share)
    down, along = rows - middle[0], columns - middle[1]
    cos, sin = np.cos(angle), np.sin(angle)
    return sampled(x, middle[0] + cos * down + sin * along, middle[1] - sin * down + cos * along)


def _scaled(x: Images, share: float, rng: np.random.Generator) -> Images:
    rows, columns = grid(x)
    middle, zoom = [(size - 1) / 2 for size in x.shape[2:]], 1 + 0.15 * share
    return sampled(x, middle[0] + (rows - middle[0]) / zoom, middle[1] + (columns - middle[1]) / zoom)


def _lit(x: Images, share: float, rng: np.random.Generator) -> Images:
    return np.clip(x + 0.2 * share, 0, 1)


def _gaussian(x: Images, share: float, rng: np.random.Generator) -> Images:
    return np.clip(x + 0.05 * rng.standard_normal(x.shape), 0, 1) if share else x


def _shot(x: Images, share: float, rng: np.random.Generator) -> Images:
    return np.clip(rng.poisson(x * 250) / 250, 0, 1) if share else x


KINDS: dict[str, Callable[[Images, float, np.random.Generator], Images]] = {
    "translate": _translated,
    "rotate": _turned,
    "scale": _scaled,
    "brightness": _lit,
    "gaussian_noise": _gaussian,
    "shot_noise": _shot,
}
