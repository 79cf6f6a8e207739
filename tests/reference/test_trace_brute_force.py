"""Trace against brute force: random ledgers, and sets of records kept beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lineage_cases import dataset
from trace_cases import bind_model

from assay import canonical, lineage
from assay.data.dataset import Dataset, concat
from assay.data.findings import Finding, split
from assay.data.manifest import History
from assay.keyring import Keyring
from assay.ledger import FileLedger
from assay.trace import trace
from assay.workspace import Workspace

ROWS = 4


class World:
    """A random ledger, and what every model learned from, as plain sets of record ids."""

    def __init__(self, workspace: Workspace, seed: int, batches: int, datasets: int, models: int) -> None:
        self.workspace, self.rng = workspace, np.random.default_rng(seed)
        self.batches = [f"s{k % 5}/b{k}" for k in range(batches)]
        self.made: list[Dataset] = []
        self.learned: dict[str, set[str]] = {}
        for _ in range(datasets):
            made = self._root() if len(self.made) < 3 or self.rng.random() < 0.3 else self._child()
            self._bind(made)
        for k in range(models):
            trained = self.made[self.rng.integers(len(self.made))]
            digest = bind_model(workspace, f"{seed}/{k}", trained.manifest.digest)
            self.learned[digest] = set(trained.record_ids)

    def _bind(self, made: Dataset) -> None:
        if made.manifest.digest not in {one.manifest.digest for one in self.made}:
            lineage.put_dataset(self.workspace.ledger, made)
            self.made.append(made)

    def _root(self) -> Dataset:
        chosen = self.rng.choice(self.batches, size=self.rng.integers(1, 5), replace=False)
        return dataset(dict.fromkeys(sorted(chosen), ROWS), parameters={"draw": int(self.rng.integers(2**40))})

    def _child(self) -> Dataset:
        """A split of one dataset, its quarantined part bound too, or the join of two that share no record."""
        first, second = (self.made[k] for k in self.rng.integers(len(self.made), size=2))
        if self.rng.random() < 0.3 and not set(first.record_ids) & set(second.record_ids):
            parents = (first.manifest.digest, second.manifest.digest)
            shares = first.manifest.history.sources + second.manifest.history.sources
            return concat([first, second], History("join", "kept", shares, parents=parents))
        leave = [name for name in first.record_ids if self.rng.random() < 0.4]
        findings = [Finding(name, "chance", 1.0, "drawn", "quarantine") for name in leave]
        parts = split(first, findings, step="sanitize", parameters={"draw": int(self.rng.integers(2**40))})
        lineage.put_findings(self.workspace.ledger, parts.findings)
        self._bind(parts.quarantined)
        return parts.kept

    def ask(self, ref: str) -> dict[str, Any]:
        return trace(ref, self.workspace.ledger, Keyring())

    def records(self) -> set[str]:
        return {name for made in self.made for name in made.record_ids}


def models(answer: dict[str, Any]) -> set[str]:
    return {name.partition(":")[2] for name in answer["reached"]["models"]}


@pytest.fixture(params=[0, 1, 2])
def world(request: pytest.FixtureRequest, workspace: Workspace) -> World:
    return World(workspace, request.param, batches=12, datasets=25, models=12)


def test_records_batches_and_sources_lead_to_the_models_that_learned_from_them(world: World) -> None:
    records = sorted(world.records())
    drawn = [records[k] for k in world.rng.choice(len(records), 25, replace=False)]
    scopes = {f"record:{name}": {name} for name in drawn}
    for record in records:
        batch = record.partition(":")[0]
        scopes.setdefault(f"batch:{batch}", set()).add(record)
        scopes.setdefault(f"source:{batch.partition('/')[0]}", set()).add(record)
    for ref, mine in scopes.items():
        answer = world.ask(ref)
        assert models(answer) == {digest for digest, learned in world.learned.items() if learned & mine}, ref
        assert answer["problems"] == []


def test_models_lead_back_to_the_batches_they_learned_from(world: World) -> None:
    for digest, learned in world.learned.items():
        answer = world.ask(f"model:{digest}")
        found = {one["id"].partition(":")[2] for one in answer["nodes"] if one["kind"] == "batch"}
        assert found == {name.partition(":")[0] for name in learned}


def test_datasets_lead_to_the_models_trained_on_what_was_made_of_them(world: World) -> None:
    """Reference: reachability by parents, found by trying every dataset."""
    histories = {made.manifest.digest: made.manifest.history for made in world.made}
    trained = {digest: world.ask(f"model:{digest}")["nodes"] for digest in world.learned}
    for origin in histories:
        reach = {origin}
        for _ in histories:
            reach |= {digest for digest, history in histories.items() if set(history.parents) & reach}
        answer = world.ask(f"dataset:{origin}")
        found = {
            one["id"].partition(":")[2]
            for one in answer["nodes"]
            if one["kind"] == "dataset" and one["side"] != "upstream"
        }
        assert found == reach
        assert models(answer) == {
            digest for digest, nodes in trained.items() if any(one["id"] == f"dataset:{origin}" for one in nodes)
        }


def test_a_record_was_taken_out_exactly_where_its_parent_held_it_and_the_child_does_not(world: World) -> None:
    held = {made.manifest.digest: set(made.record_ids) for made in world.made}
    splits = [made for made in world.made if made.manifest.history.removed]
    for record in sorted(world.records())[:20]:
        wanted = {
            made.manifest.digest
            for made in splits
            if record in held[made.manifest.history.parents[0]] and record not in held[made.manifest.digest]
        }
        found = [one["id"] for one in world.ask(f"record:{record}")["nodes"] if one["kind"] == "removed"]
        assert {name.partition(":")[2] for name in found} == wanted


def test_the_order_in_which_a_ledger_was_written_plays_no_part(world: World, tmp_path: Path) -> None:
    other = replace(world.workspace, home=tmp_path / "other", ledger_uri=str(tmp_path / "other" / "ledger"))
    source, target = world.workspace.ledger, FileLedger(tmp_path / "other" / "ledger")
    for name in reversed(source.names()):
        target.put(name, source.get(name))
    ref = f"batch:{world.batches[0]}"
    if any(ref.endswith(share.batch) for made in world.made for share in made.manifest.history.sources):
        assert canonical.dumps(trace(ref, other.ledger, Keyring())) == canonical.dumps(world.ask(ref))
