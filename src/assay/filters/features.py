"""The two representations in which poison is looked for.

``penultimate``: activations of the layer below the classes, of one proxy fitted on all records under test. This layer,
because a backdoor is learned as a feature that the last, linear layer reads: the trigger shows here as a direction that
clean records do not use. Earlier layers show more of the content, the logits less of the trigger.

``held_out``: class log-probabilities by a proxy that fitted no record of the same source, only the other sources and
the trusted records. It never saw the trigger of that source, so it speaks of the content alone. Trusted records are
judged by the proxy of all records, which fitted none of them. Log-probabilities mean the same in every proxy.

Of one source only trusted records can tell, so that they have to be measured on equal terms: the first proxy fits both,
and records and trusted records alike are judged by proxies of trusted records that they are not among. Else whatever
distinguishes the proxies would pass for a difference between the records.

Images have three more, which know no label: ``texture`` (`assay.filters._texture`), how sharp they are, and where,
``resampling`` (`assay.filters._resampling`), the log-odds that parts of them were moved, and ``marks``, what those are
weighed from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from assay.config.device import Device
from assay.data.held import HeldRows, Inputs, hold, row_blocks
from assay.errors import UnfitInput
from assay.filters import Floats, Labels
from assay.progress import track

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from assay.filters._proxy import Scaled

LEAST_IN_CLASS = 5
ABSTAINS = -50.0
ENCODED = 512  # records that an encoder takes at a time: the same ones, whether they are held or in memory

Rows = npt.NDArray[np.int64]
Encode = Callable[[Inputs], Floats]

__all__ = ["Encode", "Inputs", "Space", "Spaces", "View", "dealt", "folds_of", "spaces", "views"]


class Indexed(Protocol):
    """What gives the rows it is asked for: an array, or something that reads or makes them then."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class View(Protocol):
    """One representation, of the records under test and of the trusted ones, for whoever asks for rows of it."""

    @property
    def records(self) -> Indexed:
        """(N, D)."""
        ...

    @property
    def trusted(self) -> npt.NDArray[Any]:
        """(T, D); T may be 0."""
        ...


@dataclass(frozen=True)
class Space:
    """One representation: of the records under test (N, D) and of the trusted ones (T, D; T may be 0)."""

    records: npt.NDArray[Any]
    trusted: npt.NDArray[Any]


@dataclass(frozen=True)
class HeldSpace:
    """A `Space` too wide to be in memory."""

    records: Indexed
    trusted: npt.NDArray[Any]


@dataclass(frozen=True)
class Spaces:
    """Both representations, and the scaled inputs in a row, at most 1,024 numbers each.

    ``held_out`` is None where there is nothing to hold a source out against, ``superimposed`` where nobody asked,
    ``texture``, ``resampling`` and ``marks`` where there are no images of three or more pixels a side.
    """

    penultimate: Space
    held_out: Space | None
    inputs: View
    superimposed: Space | None = None
    texture: View | None = None
    resampling: Space | None = None
    marks: Space | None = None


def spaces(
    x: Inputs | HeldRows,
    labels: Labels,
    groups: Sequence[str],
    *,
    classes: int,
    trusted: tuple[Inputs, Labels] | None = None,
    encoder: Encode | None = None,
    overlays: int = 0,
    epochs: int = 12,
    folds: int = 5,
    seed: int = 0,
    threads: int = 1,
    device: Device = "cpu",
) -> Spaces:
    """Fit the proxies and measure every record.

    Args:
        x: (N, C, H, W) or (N, D) float32. Held in a file, its inputs and texture stay in files beside it.
        labels: (N,) int64 in [0, classes).
        groups: source of every record.
        classes: number of classes.
        trusted: inputs and labels of records known to be clean.
        encoder: from inputs to activations (N, D), which take the place of the proxy's as ``penultimate``.
        overlays: how many records, drawn by the seed, are laid over every record for ``superimposed``; 0 for none.
        epochs: passes over the data, within 200 to 4,000 gradient steps of 64 records.
        folds: at most so many proxies are fitted for ``held_out``, by half the passes; sources share folds when there
            are more.
        seed: of initial weights and order.
        threads: torch threads.
        device: of the networks.

    Raises:
        UnfitInput: NaN or infinities, a single class, shapes that do not match, or a GPU where there is none.
    """
    reference = trusted or (np.empty((0, *x.shape[1:]), np.float32), np.empty(0, np.int64))
    _require(x, labels, groups, reference)
    from assay.devices import device_of
    from assay.filters._proxy import Scaled, Scaling, fit_proxy, fixed_threads, in_a_row

    on = device_of(device, "filter.device")
    fold = folds_of(groups, folds)
    several = bool(fold.max())
    rounds = _rounds(fold) if several else _rounds_of_one(labels, reference[1], folds)
    with fixed_threads(threads):
        scaling = Scaling.of(x)
        pool, answers = Scaled(scaling, (x, reference[0])), np.concatenate([labels, reference[1]])
        records, clean = Scaled(scaling, (x,)), scaling(reference[0])
        both = records if several else pool
        whole = fit_proxy(both, answers[: len(both)], classes, epochs=epochs, seed=seed, device=on)
        said = np.zeros((len(pool), classes))
        for use, judged in track(rounds, "proxies", len(rounds)):
            use = np.concatenate([use, np.arange(len(x), len(pool))]) if several else use
            proxy = fit_proxy(pool.only(use), answers[use], classes, epochs=-(-epochs // 2), seed=seed, device=on)
            seen = np.bincount(answers[use], minlength=classes)
            said[judged] = _abstain(proxy.measure(pool.only(judged))[1], answers[judged], seen)
        below = whole.measure(records)[0]
        below_clean, of_clean = whole.measure(clean) if len(clean) else (below[:0], said[:0])
        drawn = records[np.random.default_rng(seed).choice(len(records), min(overlays, len(records)), replace=False)]
        superimposed = Space(whole.overlaid(records, drawn), whole.overlaid(clean, drawn)) if overlays else None
        if encoder is not None:
            below, below_clean = _encoded(encoder, x), encoder(reference[0])
        row = Made(records, in_a_row)
        inputs: View = HeldSpace(row, in_a_row(clean)) if isinstance(x, HeldRows) else Space(row[:], in_a_row(clean))
        sharp = _images(x, records, clean, pool, seed, on) if x.ndim == 4 and min(x.shape[2:]) > 2 else _Images()
    return Spaces(
        penultimate=Space(below, below_clean),
        held_out=Space(said[: len(x)], of_clean if several else said[len(x) :]) if rounds else None,
        inputs=inputs,
        superimposed=superimposed,
        texture=sharp.texture,
        resampling=sharp.resampling,
        marks=sharp.marks,
    )


@dataclass(frozen=True)
class _Images:
    texture: View | None = None
    resampling: Space | None = None
    marks: Space | None = None


def _images(
    x: Inputs | HeldRows, records: Scaled, clean: Tensor, pool: Scaled, seed: int, device: torch.device | None = None
) -> _Images:
    from assay.filters._resampling import resampling
    from assay.filters._texture import texture, textures

    odds, marks = resampling(pool, seed, device)
    if isinstance(x, HeldRows):
        sharp: View = HeldSpace(hold(x.path.with_suffix(".texture"), textures(records)), texture(clean))
    else:
        sharp = Space(texture(records), texture(clean))
    resampled, marked = (Space(of_all[: len(x)], of_all[len(x) :]) for of_all in (odds, marks))
    return _Images(sharp, resampled, marked)


def _rounds(fold: Rows) -> list[tuple[Rows, Rows]]:
    """For every fold of sources: the records of the others, and its own."""
    return [(np.flatnonzero(fold != leave), np.flatnonzero(fold == leave)) for leave in range(fold.max() + 1)]


def _rounds_of_one(labels: Labels, trusted: Labels, folds: int) -> list[tuple[Rows, Rows]]:
    """Of one source: the trusted records but one part of them, and that part with an equal one of the records."""
    parts = min(folds, len(trusted))
    if parts < 2:
        return []
    of_records, of_trusted = dealt(labels, parts), dealt(trusted, parts)
    return [
        (
            len(labels) + np.flatnonzero(of_trusted != part),
            np.concatenate([np.flatnonzero(of_records == part), len(labels) + np.flatnonzero(of_trusted == part)]),
        )
        for part in range(parts)
    ]


def dealt(labels: Labels, parts: int) -> Rows:
    """One of so many parts for every record, dealt in turn within each class."""
    part = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        part[rows] = np.arange(len(rows)) % parts
    return part


def _encoded(encoder: Encode, x: Inputs | HeldRows) -> Floats:
    if not isinstance(x, HeldRows):
        return encoder(x)
    return np.concatenate([encoder(x[rows]) for rows in row_blocks(x.shape, ENCODED)])


@dataclass(frozen=True)
class Made:
    """What a function makes of rows, made when they are asked for."""

    of: Indexed
    made: Callable[[Any], npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(self.of)

    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        return self.made(self.of[rows])


def views(found: Spaces) -> list[View]:
    """What a found sub-population is told apart in: activations, the inputs themselves, texture, marks of resampling.

    They err in different ways: activations mix a trigger with the content, the inputs know no class, and texture, which
    shows a warp that the inputs hide, knows no content. Texture is there by itself and beside the activations. Marks
    are few, so that few records show which of them their warp left. All are one function for all sources. What
    held-out proxies say is not: each source has its own, so that a direction that tells sources apart would be found in
    clean records.
    """
    if found.texture is None or found.marks is None:
        return [found.inputs, found.penultimate]
    return [found.inputs, _beside(found.penultimate, found.texture), found.penultimate, found.texture, found.marks]


def _beside(one: View, other: View) -> View:
    return HeldSpace(Beside(one.records, other.records), Beside(one.trusted, other.trusted)[:])


@dataclass(frozen=True)
class Beside:
    """Rows of two, side by side as float32."""

    one: Indexed
    other: Indexed

    def __len__(self) -> int:
        return len(self.one)

    def __getitem__(self, rows: Any) -> npt.NDArray[np.float32]:
        pair = (self.one[rows], self.other[rows])
        return np.concatenate(pair, axis=1, dtype=np.float32, casting="same_kind")


def folds_of(groups: Sequence[str], folds: int) -> npt.NDArray[np.int64]:
    """A fold for every record, all records of a group in one: the largest group goes where fewest records are."""
    names, counts = np.unique(np.asarray(groups, dtype=str), return_counts=True)
    load = np.zeros(min(folds, len(names)), dtype=np.int64)
    place: dict[str, int] = {}
    for at in sorted(range(len(names)), key=lambda k: (-int(counts[k]), str(names[k]))):
        place[str(names[at])] = int(load.argmin())
        load[load.argmin()] += counts[at]
    return np.array([place[name] for name in groups], dtype=np.int64)


def _abstain(said: Floats, labels: Labels, seen: npt.NDArray[np.int64]) -> Floats:
    """Where a proxy cannot doubt a label, the record counts as surely right.

    That is where it saw hardly any record of the class, and everywhere when it says the same of all records.
    """
    unknown = (seen[labels] < LEAST_IN_CLASS) | (np.ptp(said, axis=0).max() < 1e-6)
    sure = np.full_like(said, ABSTAINS)
    sure[np.arange(len(labels)), labels] = 0.0
    return np.where(unknown[:, None], sure, said)


def _require(x: Inputs | HeldRows, labels: Labels, groups: Sequence[str], trusted: tuple[Inputs, Labels]) -> None:
    if x.ndim not in (2, 4) or not len(x) or len(labels) != len(x) or len(groups) != len(x):
        raise UnfitInput(
            "inputs", f"x {x.shape}, labels {labels.shape}, {len(groups)} groups", "(N, C, H, W) or (N, D), N of each"
        )
    if trusted[0].shape[1:] != x.shape[1:] or len(trusted[0]) != len(trusted[1]):
        raise UnfitInput("trusted inputs", f"shape {trusted[0].shape}", f"(T, {', '.join(map(str, x.shape[1:]))})")
    for name, values in (("inputs", x), ("trusted inputs", trusted[0])):
        if not all(np.isfinite(values[rows]).all() for rows in row_blocks(values.shape)):
            raise UnfitInput(name, "NaN or infinity", "finite numbers", "Let sanitize quarantine such records.")
    if len(np.unique(labels)) < 2:
        raise UnfitInput("labels", "one class", "two or more")
