"""An evaluation in eight shards beside the same on one machine: what the slowest of eight nodes and the merge take.

    python benchmarks/bench_shards.py [--shards 8]

Real scans of digits (all 1,797, eight blocks of which the last has 5 records), an adversarially trained small CNN, fgsm
and PGD of 40 steps and 5 restarts under two threats, calibration besides. CPU seconds in one process, one after the
other: the whole evaluation before and after, every shard, the merge. The limit is a seventh of the whole; the bars are
0.35 of it for the dearest shard and the merge together, and 1.25 for all of them. The evidence id has to be the same.
One JSON line; exits 1 above a bar.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from evaluate_cases import dataset, digits, trained

import assay
from assay.config.evaluate import EvaluateConfig
from assay.config.shard import Shard
from assay.evaluate.merge import merge_evidence
from assay.evaluate.shard import evaluate_shard
from assay.evaluate.step import evaluate
from assay.models.folder import save_model
from assay.models.spec import Architecture, ModelSpec, Preprocessing, Trained
from assay.workspace import Workspace

DEAREST, ALL = 0.35, 1.25
CONFIG = EvaluateConfig(
    threats=("linf:0.1", "l2:0.5"),
    attacks={"fgsm": {}, "pgd": {"steps": 40, "restarts": 5}},
    aspects={"calibration": {}},
    threads=1,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=8)
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        os.environ["ASSAY_HOME"] = str(Path(temporary) / ".assay")
        Workspace.from_env().initialise()
        return compare(Path(temporary), given.shards)


def compare(folder: Path, shards: int) -> int:
    model, holdout = written(folder)

    def places(name: str) -> dict[str, Path]:
        return {kind: folder / f"{name}.{kind}" for kind in ("evidence", "outcomes", "page")}

    def shard(number: int) -> Any:
        return evaluate_shard(model, holdout, CONFIG, Shard(number=number, of=shards), part=parts[number - 1])

    parts = [folder / f"{number}.dsse.json" for number in range(1, shards + 1)]
    shard(shards)  # what is loaded once
    whole_s, whole = clocked(lambda: evaluate(model, holdout, CONFIG, **places("whole")))
    shard_s = [clocked(lambda number=number: shard(number))[0] for number in range(1, shards + 1)]  # type: ignore[misc]
    merge_s, merged = clocked(lambda: merge_evidence(parts, model, holdout, **places("merged")))
    whole_s = (whole_s + clocked(lambda: evaluate(model, holdout, CONFIG, **places("again")))[0]) / 2
    dearest, everything = (max(shard_s) + merge_s) / whole_s, (sum(shard_s) + merge_s) / whole_s
    same = whole["evidence_id"] == merged["evidence_id"]
    result = {
        "assay": assay.__version__,
        "shards": shards,
        "whole_cpu_s": round(whole_s, 2),
        "shard_cpu_s": [round(each, 2) for each in shard_s],
        "merge_cpu_s": round(merge_s, 2),
        "dearest_and_merge": round(dearest, 3),
        "dearest_bar": DEAREST,
        "all": round(everything, 3),
        "all_bar": ALL,
        "same_evidence": same,
        "load_average": round(os.getloadavg()[0], 1),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if same and dearest <= DEAREST and everything <= ALL else 1


def clocked(work: Callable[[], dict[str, Any]]) -> tuple[float, dict[str, Any]]:
    started = time.process_time()
    said = work()
    return time.process_time() - started, said


def written(folder: Path) -> tuple[Path, Path]:
    """The model and the hold-out on disk."""
    x, y = digits()
    dataset(x[:, 0].numpy(), y.numpy(), classes=10).save(folder / "holdout")
    spec = ModelSpec(
        architecture=Architecture(name="small_cnn"),
        input_shape=(1, 8, 8),
        classes=tuple("0123456789"),
        preprocessing=Preprocessing(mean=(0.0,), scale=(1.0,)),
        trained=Trained(method="adversarial"),
    )
    save_model(folder / "model", trained("small_cnn", "adversarial", 10), spec, x[:8].numpy())
    return folder / "model", folder / "holdout"


if __name__ == "__main__":
    sys.exit(main())
