"""The self-test: what is planted, what counts as found, and how the figure reaches the evidence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_filters_step import call, digits, make, rows

from assay import lineage
from assay.config.base import parse
from assay.config.filters import FilterConfig
from assay.data.dataset import Dataset, features
from assay.data.manifest import History
from assay.data.records import sources
from assay.errors import Refused, UnfitInput
from assay.estimate import proportion
from assay.evaluate.power import filter_power
from assay.filters import self_test as module
from assay.workspace import Workspace


def asked(**settings: Any) -> FilterConfig:
    return parse(FilterConfig, {"permutations": 199, "self_test": {"trials": 4, "share": 0.1} | settings}, "filter")


class Looks:
    """Stands for the filter: notes what it is shown, and removes the given share of what was planted."""

    def __init__(self, clean: np.ndarray, share: float) -> None:
        self.clean, self.share, self.shown = clean, share, []

    def __call__(self, x: np.ndarray, labels: np.ndarray, origins: Sequence[str], *_: Any) -> tuple[Any, Any]:
        planted = np.flatnonzero((x != self.clean).reshape(len(x), -1).any(axis=1))
        removed = np.zeros(len(x), dtype=np.bool_)
        removed[planted[: round(self.share * len(planted))]] = True
        self.shown.append((planted, labels, np.array(origins)))
        return None, SimpleNamespace(decision=SimpleNamespace(removed=removed))


def run_on(monkeypatch: pytest.MonkeyPatch, share: float, config: FilterConfig) -> tuple[Looks, module.Power]:
    """A self-test of a filter that removes a share of what is planted, on a table of 120 records of three sources."""
    x, labels, source = rows()
    given, removed = make(x, labels, source, classes=3), np.zeros(120, dtype=np.bool_)
    removed[:3] = True  # as if the filter had removed these
    looks = Looks(features(given)[~removed], share)
    monkeypatch.setattr(module, "look", looks)
    examined: Any = SimpleNamespace(
        x=features(given),
        origins=sources(given.table),
        decision=SimpleNamespace(removed=removed),
        built={},
        encoder=None,
    )
    power = module.self_test(given, examined, config, None)
    assert power is not None
    return looks, power


def test_each_trial_plants_the_share_in_one_source_and_one_class_of_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, power = run_on(monkeypatch, 1.0, asked(trials=30))
    assert power.planted == 12  # a tenth of 117
    places = set()
    for planted, labels, origins in looks.shown:
        assert len(origins) == 117
        assert len(planted) == 12
        assert len(set(labels[planted])) == len(set(origins[planted])) == 1
        places.add((labels[planted[0]], origins[planted[0]]))
    assert len(places) > 4  # of nine


@pytest.mark.parametrize(("share", "found"), [(1.0, 4), (0.92, 4), (0.83, 0), (0.0, 0)])
def test_a_trial_counts_as_found_from_nine_in_ten_on(monkeypatch: pytest.MonkeyPatch, share: float, found: int) -> None:
    _, power = run_on(monkeypatch, share, asked())
    assert power.estimates() == dict.fromkeys(("filter_power/columns", "filter_power"), proportion(found, 4))
    assert np.allclose(power.removed["columns"], round(share * 12) / 12)


def test_the_same_seed_plants_the_same_and_another_one_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    one, again, other = (
        [
            planted.tolist()
            for planted, *_ in run_on(monkeypatch, 1.0, asked().model_copy(update={"seed": seed}))[0].shown
        ]
        for seed in (0, 0, 1)
    )
    assert one == again
    assert one != other


def test_more_to_plant_than_any_source_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnfitInput, match="Lower `share`"):
        run_on(monkeypatch, 1.0, asked(share=0.5))


def test_a_trigger_that_does_not_fit_the_data_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((UnfitInput, ValueError)):
        run_on(monkeypatch, 1.0, asked(triggers=["patch"]))


def test_the_step_writes_the_figure_into_document_page_and_history_and_the_evaluator_reads_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workspace: Workspace
) -> None:
    x, labels, source = rows()
    given = make(x, labels, source, classes=3)
    monkeypatch.setattr(module, "look", Looks(features(given), 1.0))
    document = call(tmp_path, given, config=asked())
    kept = Dataset.load(tmp_path / "kept")
    need = proportion(4, 4)
    assert document["power"]["estimates"]["filter_power"] == need.to_json()
    assert document["power"]["removed"] == {"columns": [1.0] * 4}
    assert "a columns backdoor in 12 records" in (tmp_path / "page.html").read_text()
    read = {"filter_power": need, "filter_power/columns": need}
    assert filter_power(kept.manifest.digest, workspace.ledger) == read
    later = Dataset.make(kept.table, kept.manifest.content.classes, child(kept))
    lineage.put_dataset(workspace.ledger, later)
    assert filter_power(later.manifest.digest, workspace.ledger) == read


def child(*parents: Dataset, **changes: Any) -> History:
    history = History("slice", "kept", parents[0].manifest.history.sources)
    return replace(history, parents=tuple(one.manifest.digest for one in parents), **changes)


def test_a_history_without_a_self_test_says_nothing(tmp_path: Path, workspace: Workspace) -> None:
    x, labels, source = rows()
    given = make(x, labels, source, classes=3)
    kept = Dataset.make(given.table, given.manifest.content.classes, child(given, step="filter_poison"))
    two = Dataset.make(given.table, given.manifest.content.classes, child(given, kept))
    for one in (given, kept, two):
        lineage.put_dataset(workspace.ledger, one)
    for digest in ("", "0" * 64, *(one.manifest.digest for one in (given, kept, two))):
        assert filter_power(digest, workspace.ledger) == {}


@pytest.mark.parametrize(
    "power",
    [{"clean_accuracy": proportion(4, 4).to_json()}, {"filter_power": {"value": 1.0}}, {"filter_power": 1.0}, [1.0]],
)
def test_a_history_that_claims_something_else_is_refused(workspace: Workspace, power: object) -> None:
    x, labels, source = rows()
    given = make(x, labels, source, classes=3)
    history = child(given, step="filter_poison", parameters={"power": power})
    forged = Dataset.make(given.table, given.manifest.content.classes, history)
    lineage.put_dataset(workspace.ledger, forged)
    with pytest.raises((UnfitInput, Refused)):
        filter_power(forged.manifest.digest, workspace.ledger)


@pytest.mark.slow
def test_planted_digits_are_found_as_often_as_it_says(tmp_path: Path) -> None:
    """Patches of 3 % in digits with trusted records: found in nearly all trials, and the whole filter ran in each."""
    given, trusted, _ = digits(planted=0)
    document = call(tmp_path, given, trusted, asked(trials=5, share=0.03, triggers=["patch", "blended"]))
    assert json.loads(json.dumps(document["power"]))["estimates"]["filter_power"]["counts"]["successes"] >= 8
