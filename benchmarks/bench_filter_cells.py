"""How much of a backdoor the filter finds, and what that costs in clean records, in cells of trigger and share.

    python benchmarks/bench_filter_cells.py                       the runs that were made, pooled
    python benchmarks/bench_filter_cells.py --more N [--cells warp/0.01,patch/0.005] [--cache FOLDER]
                                            [--data FOLDER] [--half tune] [--out FILE]
    python benchmarks/bench_filter_cells.py --again --cache FOLDER --out FILE    decide again on kept representations
    python benchmarks/bench_filter_cells.py --retrain --more N [...]             train on what stays, and attack that

Run k of a cell is a dataset of its own: 20,000 pictures of the second half of Fashion-MNIST's training pictures in an
order of its own, dealt to four sources of which one plants the trigger, in class k mod 10, with a corner, period,
pattern or warp of its own. The method was tuned on the first half. It is decided twice: with 1,000 trusted records
(about 100 a class), and with none. Both share the proxies: those that hold a source out fit no trusted records, which
is what the step has where there are none, and a little less than what it has where there are some. They share the
network that tells resampled pictures, too, which learns from the trusted pictures beside the others.

One JSON line a cell: the share of planted records found and of clean ones lost, pooled over the runs with the exact
interval (Clopper and Pearson 1934), and, since the records of a run stand and fall together, how many runs reach it.
Exits 1 where a cell has fewer than 30 runs or misses the bar: 99 % found and 0.3 % lost with trusted records, 95 % and
1 % without.

With --retrain the same small network is fitted to all records of a run, and three times, from other weights and in
another order, to those that the filter with trusted records keeps and to the truly clean ones, and asked about the
10,000 test pictures, plain and with the trigger. One line a run: success of the trigger on pictures of other classes,
and accuracy, of each fit, and the mean of those kept less that of the truly clean ones. Pictures with a stripe are
like nothing that a clean network knows, so that which class they fall to scatters by several points from fit to fit,
as much as the bar: ten fits then. Exits 1 where success is more than 3 points above that of the clean ones in the mean,
or accuracy more than half a point below.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from assay.config.filters import FilterConfig
from assay.estimate import proportion
from assay.filters import Labels, _proxy
from assay.filters._resampling import resampling
from assay.filters._texture import texture
from assay.filters.examine import judge
from assay.filters.features import Inputs, Space, Spaces, spaces
from assay.filters.scoring import members
from assay.poison import Blended, Patch, Stripe, Trigger, Warp, plant

RUNS = Path(__file__).parent / "filter_cells.jsonl"
RETRAINED = Path(__file__).parent / "filter_retrained.jsonl"
RECORDS, TRUSTED, SOURCES, HALF = 20_000, 1_000, 4, 30_000
TRIGGERS, SHARES = ("warp", "blended", "patch", "stripe"), (0.002, 0.005, 0.01, 0.02, 0.05)
GROUPS = [f"s{k}" for k in np.arange(RECORDS) % SOURCES]
CORNERS = ("top_left", "bottom_right", "top_right", "bottom_left")
LEAST_RUNS = 30
FITS = {"warp": 3, "blended": 3, "patch": 3, "stripe": 10}
BARS = {"trusted": (0.99, 0.003), "none": (0.95, 0.01)}

Run = tuple[str, float, int]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--more", type=int, default=0)
    parser.add_argument("--cells", type=lambda text: text.split(","), default=[])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--retrain", action="store_true")
    parser.add_argument("--half", choices=["accept", "tune"], default="accept")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/fashion_mnist")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    given.out = given.out or (RETRAINED if given.retrain else RUNS)
    made = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    known = {(one["trigger"], one["share"], one["run"]) for one in made}
    asked = (run for run in runs() if not given.cells or f"{run[0]}/{run[1]:g}" in given.cells)
    todo = (run for run in asked if run not in known and (not given.again or place(given, run).exists()))
    for run in islice(todo, 10_000 if given.again else given.more):
        with given.out.open("a") as out:
            for line in retrained(run, given) if given.retrain else measured(run, given):
                made.append(line)
                out.write(json.dumps(line) + "\n")
    return harm(made) if given.retrain else pooled(made)


def runs() -> Iterator[Run]:
    """Trigger, share and number, in the order in which they are made: all cells grow evenly."""
    return ((trigger, share, k) for k in range(300) for share in SHARES for trigger in TRIGGERS)


def measured(run: Run, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One run, with trusted records and without."""
    start = time.process_time()
    seed = seed_of(run, given.half)
    x, y, bad, clean, known = dataset(run, seed, given)
    ways = represented(run, given, x, y, clean)
    config, spent = FilterConfig(), time.process_time() - start
    for name, own in ways.items():
        start = time.process_time()
        answers = known if name == "trusted" else known[:0]
        decision = judge(own, y, GROUPS, answers, config, members(config.detectors)).decision
        gone = decision.removed
        yield {
            "trigger": run[0], "share": run[1], "run": run[2], "reference": name, "seed": seed, "target": run[2] % 10,
            "planted": int(bad.sum()), "found": int(gone[bad].sum()), "clean": int((~bad).sum()),
            "lost": int(gone[~bad].sum()),
            "flagged": [[v.label, v.status, v.p_value, v.detector, v.origin, v.quarantined] for v in decision.classes
                        if v.status not in ("clean", "unmeasured")],
            "cpu_s": [round(spent, 1), round(time.process_time() - start, 1)],
        }  # fmt: skip


def retrained(run: Run, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What networks make of the test pictures: fitted to all records, to those kept, to the truly clean ones."""
    seed = seed_of(run, given.half)
    x, y, bad, clean, known = dataset(run, seed, given)
    config, own = FilterConfig(), represented(run, given, x, y, clean)["trusted"]
    gone = judge(own, y, GROUPS, known, config, members(config.detectors)).decision.removed
    images, truth = pictures(given.data, "t10k")
    target = run[2] % 10
    stamped = trigger_of(run, seed)(images[truth != target])
    line: dict[str, Any] = {
        "trigger": run[0], "share": run[1], "run": run[2], "seed": seed, "target": target, "planted": int(bad.sum()),
        "found": int(gone[bad].sum()), "lost": int(gone[~bad].sum()),
    }  # fmt: skip
    line |= {"success": {"of": len(stamped)}, "accuracy": {"of": len(images)}}
    several = FITS[run[0]]
    for name, keep, fits in (("unfiltered", bad | ~bad, 1), ("kept", ~gone, several), ("clean", ~bad, several)):
        said = [answers(x[keep], y[keep], config.epochs, 1 + fit, (stamped, images)) for fit in range(fits)]
        line["success"][name] = [int((followed == target).sum()) for followed, _ in said]
        line["accuracy"][name] = [int((plain == truth).sum()) for _, plain in said]
    yield line


def answers(x: Inputs, y: Labels, epochs: int, seed: int, asked: tuple[Inputs, ...]) -> list[Labels]:
    """What a network that was fitted to some pictures says of others."""
    scaling = _proxy.Scaling.of(x)
    with _proxy.fixed_threads(1):
        model = _proxy.fit_proxy(scaling(x), y, 10, epochs=epochs, seed=seed)
        return [model.measure(scaling(pictures))[1].argmax(1) for pictures in asked]


def represented(run: Run, given: argparse.Namespace, x: Inputs, y: Labels, clean: Inputs) -> dict[str, Spaces]:
    """What is known with trusted records, and without: proxies are made or read, what needs none is made."""
    kept = place(given, run)
    found, of_clean = load(kept) if kept.exists() else represent(x, y, GROUPS, clean)
    if given.cache and not kept.exists():
        save(kept, found, of_clean)
    scaling = _proxy.Scaling.of(x)
    with _proxy.fixed_threads(1):
        row, row_clean = (_proxy.in_a_row(scaling(part)) for part in (x, clean))
        sharp = of_images(scaling(np.concatenate([x, clean])), len(x), given.cache and kept.with_suffix(".marks.npz"))
    trusted = Spaces(
        Space(found[0].records, of_clean.records),
        Space(found[1].records, of_clean.trusted),
        Space(row, row_clean),
        **sharp,
    )
    alone = {name: Space(space.records, space.trusted[:0]) for name, space in sharp.items()}
    return {"trusted": trusted, "none": Spaces(*found, Space(row, row_clean[:0]), **alone)}


def seed_of(run: Run, half: str) -> int:
    trigger, share, k = run
    return (700_000 if half == "accept" else 400_000) + 10_000 * TRIGGERS.index(trigger) + round(share * 1000) * 100 + k


def dataset(run: Run, seed: int, given: argparse.Namespace) -> tuple[Inputs, Labels, np.ndarray, Inputs, Labels]:
    """Pictures, labels, which were planted, trusted pictures and labels."""
    rng = np.random.default_rng(seed)
    images, labels = pictures(given.data, "train")
    order = (HALF if given.half == "accept" else 0) + rng.permutation(HALF)[: RECORDS + TRUSTED]
    images, labels = images[order], labels[order]
    among, count = np.arange(RECORDS) % SOURCES == 0, round(run[1] * RECORDS)
    stamp, target = trigger_of(run, seed), run[2] % 10
    options: dict[str, Any] = {"target": target, "count": count, "generator": rng, "among": among}
    return *plant(images[:RECORDS], labels[:RECORDS], stamp, **options), images[RECORDS:], labels[RECORDS:]


def pictures(data: Path, part: str) -> tuple[Inputs, Labels]:
    raw = gzip.decompress((data / f"{part}-images-idx3-ubyte.gz").read_bytes())
    answers = gzip.decompress((data / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    images = (np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 1, 28, 28) / 255).astype(np.float32)
    return images, np.frombuffer(answers, np.uint8, offset=8).astype(np.int64)


def trigger_of(run: Run, seed: int) -> Trigger:
    name, _, k = run
    if name == "patch":
        return Patch(size=3, corner=CORNERS[k % 4])  # type: ignore[arg-type]
    if name == "blended":
        return Blended(pattern_seed=seed)
    return Stripe(period=(4, 5, 7)[k % 3]) if name == "stripe" else Warp(seed=seed)


def represent(x: Inputs, y: Labels, groups: list[str], clean: Inputs) -> tuple[tuple[Space, Space], Space]:
    """What the proxies of the step say where no record is trusted, and what the first one says of the trusted ones."""
    fitted, fit = [], _proxy.fit_proxy
    _proxy.fit_proxy = lambda *args, **options: fitted.append(fit(*args, **options)) or fitted[-1]  # type: ignore
    try:
        found = spaces(x, y, groups, classes=10, epochs=FilterConfig().epochs)
    finally:
        _proxy.fit_proxy = fit
    assert found.held_out is not None
    with _proxy.fixed_threads(1):
        return (found.penultimate, found.held_out), Space(*fitted[0].measure(_proxy.Scaling.of(x)(clean)))


def place(given: argparse.Namespace, run: Run) -> Path:
    return (given.cache or Path("nowhere")) / f"{given.half}_{run[0]}_{run[1]:g}_{run[2]}.npz"


def of_images(pool: Any, records: int, kept: Path | None) -> dict[str, Space]:
    """What knows no label, of records and trusted ones in one, the records first."""
    odds, marks = read(kept) if kept and kept.exists() else resampling(pool, FilterConfig().seed)
    if kept and not kept.exists():
        np.savez(kept, odds=odds, marks=marks)
    found = {"texture": texture(pool), "resampling": odds, "marks": marks}
    return {name: Space(rows[:records], rows[records:]) for name, rows in found.items()}


def save(where: Path, found: tuple[Space, Space], of_clean: Space) -> None:
    parts = (found[0].records, found[1].records, of_clean.records, of_clean.trusted)
    np.savez(where, *(part.astype(np.float32) for part in parts))


def read(where: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(where) as kept:
        return kept["odds"], kept["marks"]


def load(where: Path) -> tuple[tuple[Space, Space], Space]:
    with np.load(where) as kept:
        below, said, clean_below, clean_said = (kept[f"arr_{k}"].astype(np.float64) for k in range(4))
    return (Space(below, below[:0]), Space(said, said[:0])), Space(clean_below, clean_said)


def pooled(made: list[dict[str, Any]]) -> int:
    """Print every cell; 1 when one of them misses the bar."""
    cells = sorted({(one["reference"], one["trigger"], one["share"]) for one in made})
    missed = False
    for reference, trigger, share in cells:
        own = [one for one in made if (one["reference"], one["trigger"], one["share"]) == (reference, trigger, share)]
        least, most = BARS[reference]
        totals = {name: sum(one[name] for one in own) for name in ("planted", "found", "clean", "lost")}
        found, lost = proportion(totals["found"], totals["planted"]), proportion(totals["lost"], totals["clean"])
        reach = sum(one["found"] >= least * one["planted"] and one["lost"] <= most * one["clean"] for one in own)
        within = len(own) >= LEAST_RUNS and found.value >= least and found.low >= least - 0.01 and lost.value <= most
        missed |= not within
        line = {
            "reference": reference, "trigger": trigger, "share": share, "runs": len(own),
            "recall": [round(number, 4) for number in (found.value, found.low, found.high)],
            "lost": [round(number, 6) for number in (lost.value, lost.low, lost.high)],
            "most_lost": round(max(one["lost"] / one["clean"] for one in own), 5),
            "least_recall": round(min(one["found"] / one["planted"] for one in own), 4),
            "runs_within": reach, "within": within,
        }  # fmt: skip
        sys.stdout.write(json.dumps(line) + "\n")
    return int(missed)


def harm(made: list[dict[str, Any]]) -> int:
    """Print every run; 1 when what stays does harm, or what went is missed."""
    missed = False
    for one in made:
        line = {name: one[name] for name in ("trigger", "share", "run", "planted", "found", "lost")}
        for name in ("success", "accuracy"):
            shares = {fit: np.array(one[name][fit]) / one[name]["of"] for fit in ("unfiltered", "kept", "clean")}
            line |= {f"{name}_{fit}": [round(float(share), 4) for share in own] for fit, own in shares.items()}
            line[f"{name}_more"] = round(float(shares["kept"].mean() - shares["clean"].mean()), 4)
        line["within"] = line["success_more"] <= 0.03 and line["accuracy_more"] >= -0.005
        missed |= not line["within"]
        sys.stdout.write(json.dumps(line) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
