"""Boosted trees of XGBoost, from the JSON that it writes: no code of theirs is needed to ask them.

A tree has no gradient, so such a model is attacked as what can only be asked. The format is the one that XGBoost
documents for its ``save_model``; whatever this reader does not know of it is refused by name, never skipped: linear
boosters, dropout (``dart``), categorical splits, several targets, early stopping that left unused trees behind.

Reference: XGBoost documentation, Introduction to Model IO, JSON schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from assay import canonical
from assay.errors import AssayError, Refused, UnfitInput

MAX_BYTES = 2**28
BINARY = ("binary:logistic", "binary:logitraw")
MANY = ("multi:softprob", "multi:softmax")

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

__all__ = ["ENDINGS", "BoostedTrees", "read_boosted_trees"]

ENDINGS = (".json", ".ubj")


@dataclass(frozen=True)
class _Tree:
    """Nodes (M,) each; of a leaf ``left`` is -1 and ``value`` what it adds, else where its column is cut."""

    left: Ints
    right: Ints
    column: Ints
    value: Floats
    missing_left: npt.NDArray[np.bool_]
    depth: int

    def __call__(self, x: Floats) -> Floats:
        """What each row gets, (N,)."""
        at, rows = np.zeros(len(x), np.int64), np.arange(len(x))
        for _ in range(self.depth):
            cell = x[rows, self.column[at]]
            goes_left = np.where(np.isnan(cell), self.missing_left[at], cell < self.value[at])
            at = np.where(self.left[at] < 0, at, np.where(goes_left, self.left[at], self.right[at]))
        return self.value[at]


@dataclass(frozen=True)
class BoostedTrees:
    """A model of classes.

    Fields:
        trees: in order; groups: (T,) the class that each adds to.
        base: (G,) where the sums begin; of two classes one sum, of the second's log odds.
        columns: how many a row has.
        digest: SHA-256 of the file.
        objective: as the file says.
    """

    trees: tuple[_Tree, ...]
    groups: tuple[int, ...]
    base: Floats
    columns: int
    digest: str
    objective: str

    def describe(self) -> Mapping[str, Any]:
        """What it is, and its digest."""
        return {"kind": "xgboost", "digest": self.digest, "objective": self.objective, "trees": len(self.trees)}

    def __call__(self, x: Floats) -> Floats:
        """Scores (N, K) of rows (N, D); of two classes the first's is 0."""
        wide = np.asarray(x.reshape(len(x), -1), np.float32)
        if wide.shape[1] != self.columns:
            raise UnfitInput("xgboost: columns", str(wide.shape[1]), str(self.columns))
        sums = np.tile(self.base, (len(wide), 1))
        for tree, group in zip(self.trees, self.groups, strict=True):
            sums[:, group] += tree(wide)
        return sums if len(self.base) > 1 else np.concatenate([np.zeros_like(sums), sums], axis=1)


def read_boosted_trees(path: Path) -> BoostedTrees:
    """The trees of a file that ``Booster.save_model("model.json")`` wrote.

    Raises:
        Refused: a booster of another kind, or of anything but classes.
        UnfitInput: a file that is broken or too large, or no such file.
    """
    if path.suffix == ".ubj":
        raise Refused(f"model {path}", "UBJSON", "JSON", 'Save it with booster.save_model("model.json").')
    data = canonical.read_bytes(path, MAX_BYTES)
    try:
        learner = _numbers(data, str(path))["learner"]
        booster = learner["gradient_booster"]
        objective, parameters = str(learner["objective"]["name"]), learner["learner_model_param"]
        _require_known(path, booster, objective, learner)
        trees = tuple(_tree(each, int(parameters["num_feature"])) for each in booster["model"]["trees"])
        groups = tuple(map(int, booster["model"]["tree_info"]))
        base = _base(str(parameters["base_score"]), objective, int(parameters["num_class"]) or 1)
        if len(groups) != len(trees) or not trees or not 0 <= min(groups) <= max(groups) < len(base):
            raise ValueError(f"{len(trees)} trees of groups {groups[:5]} for {len(base)} sums")
        return BoostedTrees(trees, groups, base, int(parameters["num_feature"]), canonical.sha256(data), objective)
    except AssayError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        need = "a model that XGBoost saved as JSON"
        raise UnfitInput(f"model {path}", f"{type(error).__name__}: {error}"[:300], need) from error


def _numbers(data: bytes, where: str) -> Any:
    return canonical.loads(data, where, MAX_BYTES)


def _require_known(path: Path, booster: Mapping[str, Any], objective: str, learner: Mapping[str, Any]) -> None:
    needed = {
        "booster": (booster["name"], ("gbtree",)),
        "objective": (objective, (*BINARY, *MANY)),
        "targets": (learner["learner_model_param"].get("num_target", "1"), ("0", "1")),
        "best_iteration": (learner.get("attributes", {}).get("best_iteration", ""), ("",)),
    }
    for name, (got, need) in needed.items():
        if got not in need:
            fix = "Cut unused trees off: booster[: best_iteration + 1]." if name == "best_iteration" else ""
            raise Refused(f"model {path}: {name}", str(got)[:100], " or ".join(need) or "none", fix)


def _tree(given: Mapping[str, Any], columns: int) -> _Tree:
    """One tree, known to be one: from the root every node is reached once, and every cut is of a column there is."""
    if any(given.get("split_type", ())) or given.get("categories_nodes"):
        raise Refused("xgboost", "a categorical split", "numbers")
    if given["tree_param"].get("size_leaf_vector", "1") not in ("0", "1"):
        raise Refused("xgboost", "leaves of several values", "one")
    left, right, column = (
        np.array(given[f"{name}"], np.int64) for name in ("left_children", "right_children", "split_indices")
    )
    value = np.array(given["split_conditions"], np.float32)
    if not (len(left) == len(right) == len(column) == len(value) == len(given["default_left"]) >= 1):
        raise ValueError("nodes of different numbers")
    if not np.isfinite(value).all():
        raise ValueError("a cut or leaf that is not finite")
    level, seen, depth = [0], {0}, 0
    while level:
        inner = [node for node in level if left[node] >= 0]
        level = [int(child) for node in inner for child in (left[node], right[node])]
        if any(not 0 <= column[node] < columns for node in inner) or len(seen.union(level)) != len(seen) + len(level):
            raise ValueError("a cut of no column, or a node reached twice")
        if any(not 0 <= node < len(left) for node in level):
            raise ValueError("a child that is no node")
        seen.update(level)
        depth += 1
    return _Tree(left, right, column, value, np.array(given["default_left"], np.bool_), depth)


def _base(text: str, objective: str, count: int) -> Floats:
    """Where the sums begin; XGBoost writes it as a probability where it trains one."""
    given = np.atleast_1d(np.array(json.loads(text.replace("E", "e")), np.float32))
    if objective == "binary:logistic":
        if not ((given > 0) & (given < 1)).all():
            raise ValueError(f"base_score {text}")
        given = -np.log(1 / given - 1, dtype=np.float32)
    if len(given) not in (1, count) or not np.isfinite(given).all():
        raise ValueError(f"base_score {text} for {count} sums")
    return np.broadcast_to(given, (count,)).astype(np.float32)
