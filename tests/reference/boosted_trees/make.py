"""Makes the models and answers beside it with xgboost itself; it is no dependency of the tests.

pip install xgboost==3.2.0 && python tests/reference/boosted_trees/make.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xgboost

HERE = Path(__file__).parent
CASES = {
    "binary": {"objective": "binary:logistic", "base_score": 0.3},
    "raw": {"objective": "binary:logitraw"},
    "multi": {"objective": "multi:softprob", "num_class": 3},
    "forest": {"objective": "multi:softmax", "num_class": 3, "num_parallel_tree": 2, "subsample": 0.7},
}


def main() -> None:
    draw = np.random.default_rng(0)
    x = draw.uniform(0, 1, (400, 4)).astype(np.float32)
    y = ((x - 0.5) @ draw.normal(size=(4, 3))).argmax(1)
    asked = np.concatenate([draw.uniform(-0.5, 1.5, (60, 4)), x[:20]]).astype(np.float32)
    asked[0, 0] = asked[3, 2] = np.nan
    answers = {"asked": asked.tolist()}
    for name, settings in CASES.items():
        label = y if "num_class" in settings else (y > 0)
        given = {"max_depth": 3, "eta": 0.5, "seed": 1, "nthread": 1} | settings
        booster = xgboost.train(given, xgboost.DMatrix(x, label), num_boost_round=4)
        booster.save_model(HERE / f"{name}.json")
        margin = booster.predict(xgboost.DMatrix(asked), output_margin=True)
        answers[name] = np.asarray(margin, np.float64).tolist()
        edges = np.array([[node] * 4 for node in thresholds(HERE / f"{name}.json")[:8]], np.float32)
        answers[f"{name} edges"] = edges.tolist()
        answers[f"{name} at edges"] = np.asarray(
            booster.predict(xgboost.DMatrix(edges), output_margin=True), np.float64
        ).tolist()
    text = json.dumps(answers).replace("NaN", "null")
    (HERE / "answers.json").write_text(text + "\n")


def thresholds(path: Path) -> list[float]:
    """Values at which trees split: on the very edge a wrong comparison shows."""
    trees = json.loads(path.read_text())["learner"]["gradient_booster"]["model"]["trees"]
    return [
        value
        for tree in trees
        for value, left in zip(tree["split_conditions"], tree["left_children"], strict=True)
        if left >= 0
    ]


if __name__ == "__main__":
    main()
