"""Nothing is lost and nothing is made: each row delivered is kept, divided, set aside, kept raw or rejected."""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assay.config.base import parse
from assay.config.ingest import IngestConfig, SourceConfig, SourceRule
from assay.config.sanitize import SanitizeConfig
from assay.data.dataset import Dataset
from assay.ingest.step import ingest
from assay.quarantine import Quarantine
from assay.release import release
from assay.sanitize.step import sanitize

Rows = list[tuple[str, ...]]
SOUND = st.tuples(
    st.integers(0, 60).map(str), st.sampled_from("ab")
)  # few values: copies of each other and the hold-out
ODD = st.sampled_from([("nan", "a"), ("", "b"), ("1", "a", "2"), ("1e400", "b"), ("007", "a"), ("=1+1", "b"), ("3",)])
BATCH = st.lists(SOUND | ODD, min_size=1, max_size=25)
BASE: Rows = [(str(k), "ab"[k % 2]) for k in range(100, 140)]  # so that enough is left in every batch


def write(folder: Path, name: str, rows: Rows) -> Path:
    path = folder / f"{name}.csv"
    path.write_text("x,label\n" + "".join(",".join(row) + "\n" for row in rows))
    return path


def cells(dataset: Dataset) -> Counter[Any]:
    """Record id, value and label of every record; a missing and a NaN value alike."""
    classes = dataset.manifest.content.classes
    columns = (dataset.record_ids, dataset.table["x"].to_pylist(), dataset.table["label"].to_pylist())
    return Counter((name, repr(x), classes[y]) for name, x, y in zip(*columns, strict=True))


def check(folder: Path, batches: dict[str, Rows]) -> None:
    """Ingest of two good batches, a trusted and an oversized one; then sanitize; then every release."""
    delivered = {name: [*rows, *BASE] for name, rows in batches.items()}
    paths = {name: write(folder, name, rows) for name, rows in delivered.items()}
    rules = {
        name: SourceRule(
            prefixes=(str(folder),), require_signature=False, trust="trusted" if name == "own" else "standard",
            limits={"rows": 30 if name == "evil" else 10**6, "refused_share": 0.7},
        )
        for name in delivered
    }  # fmt: skip
    sources = [
        SourceConfig(name=name, batch="b", uri=str(path), trust=rules[name].trust) for name, path in paths.items()
    ]
    given = {"sources": {name: rule.model_dump() for name, rule in rules.items()}, "limits": {"refused_share": 0.7}}
    given |= {"missing": [""], "types": {"x": "number"}}
    places = {name: folder / name for name in ("dataset", "calibration", "holdout", "quarantine")}
    ingest(sources, parse(IngestConfig, given, "ingest"), **places)
    parts = {name: Dataset.load(place) for name, place in places.items()}
    held = Quarantine.load(places["quarantine"])

    # the rows: every one of a batch that came in is in one part, or raw with its own bytes
    ids = sum((Counter(part.record_ids) for part in parts.values()), Counter())
    raw = Counter(f"{row['batch']}:{row['row']}" for row in held.raw)
    expected = Counter(f"{n}/b:{k}" for n, rows in delivered.items() if n != "evil" for k in range(len(rows)))
    assert ids + raw == expected
    for row in held.raw:
        line = ",".join(delivered[row["batch"].split("/")[0]][row["row"]])
        assert base64.b64decode(row["bytes"]).decode().rstrip("\n") == line
    for name, x, label in sum((cells(part) for part in parts.values()), Counter()):
        text = delivered[name.split("/")[0]][int(name.rpartition(":")[2])]
        assert label == text[1]
        assert x == repr(float(text[0])) if text[0] else x == "None"

    # the rejected batch: listed, and its bytes kept
    assert [it["batch"] for it in held.rejected] == ["evil/b"]
    assert (places["quarantine"] / "rejected/evil/b/data").read_bytes() == paths["evil"].read_bytes()

    # the release of what ingest set aside: as if nothing had been
    whole = Counter(parts["dataset"].record_ids) + Counter(parts["quarantine"].record_ids)
    if len(parts["quarantine"]):
        flagging = parse(IngestConfig, given | {"overlap": "flag"}, "ingest")
        ingest(sources, flagging, **{name: folder / "flag" / name for name in places})
        back = release(places["quarantine"], places["dataset"], folder / "back")
        assert Counter(Dataset.load(folder / "back").record_ids) == whole
        flagged = Dataset.load(folder / "flag" / "dataset").manifest
        assert back["dataset"]["content_digest"] == flagged.content_digest

    # sanitize: kept and quarantined are its input, and all of it comes back
    after = {name: folder / "s" / name for name in ("kept", "left")}
    config = parse(SanitizeConfig, {"removal_cap": 1}, "sanitize")
    sanitize(places["dataset"], config, kept=after["kept"], quarantine=after["left"], calibration=places["calibration"])
    kept, left = (Dataset.load(place) for place in after.values())
    assert cells(kept) + cells(left) == cells(parts["dataset"])
    if len(left):
        again = release(after["left"], after["kept"], folder / "s" / "back")
        assert again["dataset"]["content_digest"] == parts["dataset"].manifest.content_digest


MIXED: dict[str, Rows] = {
    "v": [("1", "a"), ("1", "a"), ("nan", "a"), ("1", "a", "2"), ("100", "a"), ("", "b"), ("101", "b")],
    "w": [("007", "a"), ("5", "b"), ("102", "a"), ("103", "a")],
    "own": [("1", "a"), ("5", "b"), ("77", "a"), ("78", "b")],
    "evil": [("1", "a")],
}


@pytest.fixture(autouse=True)
def _no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.mlflow_mirror.deliver", lambda _: None)


def test_what_was_delivered_is_all_there_in_parts(tmp_path: Path) -> None:
    check(tmp_path, MIXED)


@pytest.mark.slow
@settings(max_examples=30)
@given(batches=st.fixed_dictionaries(dict.fromkeys(("v", "w", "own", "evil"), BATCH)))
@example(batches=MIXED)
def test_whatever_is_delivered_is_all_there_in_parts(batches: dict[str, Rows]) -> None:
    """Property: as multisets of record ids, values and labels; raw rows by their bytes, rejected batches by theirs."""
    batches["own"] = [row for row in batches["own"] if len(row) == 2 and row[0].isdigit() and row[0] != "007"]
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_HOME", f"{name}/.assay")
        check(Path(name), batches)


def test_a_record_that_is_dropped_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the dataset that ingest leaves has lost its last record, and is whole in itself."""
    ingests = ingest

    def loses(*given: Any, **named: Any) -> dict[str, Any]:
        document = ingests(*given, **named)
        made = Dataset.load(named["dataset"])
        shutil.rmtree(named["dataset"])
        made.take(np.arange(len(made) - 1), made.manifest.history).save(named["dataset"])
        return document

    monkeypatch.setitem(globals(), "ingest", loses)
    with pytest.raises(AssertionError):
        check(tmp_path, MIXED)
