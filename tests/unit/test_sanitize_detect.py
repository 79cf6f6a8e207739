"""The step with detectors, downweighting and annotators: reasons, rates, weights and the way back."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom, mode
from sklearn.metrics import cohen_kappa_score

from assay.config.base import parse
from assay.config.sanitize import SanitizeConfig
from assay.data.dataset import Dataset
from assay.data.manifest import BatchShare, History
from assay.errors import UnfitInput
from assay.release import release
from assay.sanitize.annotators import Annotations, consensus, dawid_skene, kappa, read_annotations, votes
from assay.sanitize.step import sanitize
from assay.train.inputs import weights_of

CLASSES = ("n", "y")


def dataset(rows: int, source: str = "v", wild: int = 0, **columns: Any) -> Dataset:
    rng = np.random.default_rng([3, *source.encode()])
    x = rng.normal(size=(rows, 3))
    x[:wild] += 40
    made = {
        "batch": [f"{source}/b"] * rows,
        "row": np.arange(rows),
        **{f"f{k}": x[:, k] for k in range(3)},
        "label": np.arange(rows) % 2,
    }
    shares = (BatchShare(source, "b", "0" * 64, 0),)
    return Dataset.make(pa.table(made | columns), CLASSES, History("ingest", "kept", shares))


def run(folder: Path, given: Dataset, trusted: Dataset | None = None, **config: Any) -> dict[str, Any]:
    given.save(folder / "in")
    if trusted is not None:
        trusted.save(folder / "trusted")
    return sanitize(
        folder / "in",
        parse(SanitizeConfig, config, "sanitize"),
        kept=folder / "kept",
        quarantine=folder / "quarantine",
        calibration=folder / "trusted" if trusted is not None else None,
        page=folder / "page.html",
    )


def test_suspicious_records_leave_and_the_document_states_the_rate(tmp_path: Path) -> None:
    given = dataset(200, wild=5)
    detectors = {"robust_z": {"rate": 0.01, "action": "quarantine"}, "isolation_forest": {"rate": 0.01}}
    document = run(tmp_path, given, dataset(400, "t"), detectors=detectors)
    assert document["reasons"]["robust_z"] >= 5
    gone = set(Dataset.load(tmp_path / "quarantine").record_ids)
    assert gone >= {f"v/b:{row}" for row in range(5)}
    assert len(gone) <= 5 + binom.ppf(1 - 1e-6, 195, 0.05)
    assert document["flagged"]["isolated"] >= 5
    facts = {it["detector"]: it for it in document["detectors"]}
    assert facts["robust_z"]["rate"] == 0.01
    assert (facts["robust_z"]["calibration"], facts["robust_z"]["records"]) == (200, 200)
    page = (tmp_path / "page.html").read_text()
    assert "robust_z on features: cut at" in page
    assert "share of clean records, at most" in page
    back = release(tmp_path / "quarantine", tmp_path / "kept", tmp_path / "back")
    assert back["dataset"]["content_digest"] == given.manifest.content_digest


@pytest.mark.parametrize("weighted", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_downweighted_record_stays_with_an_eighth_of_its_weight_and_a_release_gives_it_back(
    tmp_path: Path, weighted: bool
) -> None:
    weight = {"weight": np.linspace(0.1, 3, 200)} if weighted else {}
    given = dataset(200, wild=5, **weight)
    detectors = {
        "robust_z": {
            "rate": 0.02,
            "action": "downweight",
            "severe_rate": 0.01,
            "severe_action": "downweight",
        },
        "tukey": {"rate": 0.005, "action": "quarantine", "settings": {}},
    }
    changed = given.table.to_pydict()
    changed["f0"] = [9.0 if row in (50, 51) else value for row, value in enumerate(changed["f0"])]
    given = Dataset.make(pa.table(changed), CLASSES, given.manifest.history)
    document = run(tmp_path, given, dataset(400, "t"), detectors=detectors)
    kept = Dataset.load(tmp_path / "kept")
    assert document["quarantined"] >= 5
    before = given.table["weight"].to_numpy() if weighted else np.ones(200)
    after = dict(zip(kept.record_ids, kept.table["weight"].to_numpy(), strict=True))
    names = {name: before[row] for row, name in enumerate(given.record_ids) if name in after}
    lowered = {name for name in after if after[name] != names[name]}
    assert lowered
    assert all(after[name] == names[name] / 8 for name in lowered)
    learnt = dict(zip(kept.record_ids, weights_of(kept), strict=True))  # what train multiplies the losses by
    for name in lowered:
        assert all(learnt[name] / learnt[other] == pytest.approx(after[name] / after[other]) for other in learnt)
    back = release(tmp_path / "quarantine", tmp_path / "kept", tmp_path / "back")
    assert back["dataset"]["content_digest"] == given.manifest.content_digest


def test_text_alone_has_nothing_to_measure(tmp_path: Path) -> None:
    given = dataset(20).table.select(["batch", "row", "label"]).append_column("t", pa.array(["a"] * 19 + ["b"]))
    made = Dataset.make(given, CLASSES, dataset(20).manifest.history)
    with pytest.raises(UnfitInput, match="no numeric feature"):
        run(tmp_path, made, detectors={"robust_z": {}})
    assert not (tmp_path / "kept").exists()


def crowd(seed: int, items: int = 300) -> tuple[Annotations, Any]:
    """Three good annotators, four that mostly answer y, each answering most items; the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, items)
    right = {
        0: (0.9, 0.9),
        1: (0.92, 0.88),
        2: (0.9, 0.92),
        3: (0.3, 0.9),
        4: (0.3, 0.9),
        5: (0.25, 0.9),
        6: (0.3, 0.95),
    }
    entries = [
        (item, who, int(truth[item]) if rng.random() < chances[truth[item]] else 1 - int(truth[item]))
        for item in range(items)
        for who, chances in right.items()
        if rng.random() < 0.9
    ]
    columns = np.array(entries).T
    names = tuple(f"v/b:{k}" for k in range(items)), tuple(f"w{k}" for k in range(7))
    return Annotations(*names, CLASSES, *columns), truth


def test_dawid_and_skene_beat_the_majority_where_many_err_alike() -> None:
    """20 simulated crowds; the consensus is right more often in every one, and its confusions are those simulated."""
    for seed in range(20):
        given, truth = crowd(seed)
        made = dawid_skene(given)
        mine, majority = (made.posterior.argmax(axis=1) == truth).mean(), (votes(given).argmax(axis=1) == truth).mean()
        assert mine > majority + 0.03
        np.testing.assert_allclose(made.posterior.sum(axis=1), 1)
        np.testing.assert_allclose(made.confusion[0].diagonal(), [0.9, 0.9], atol=0.12)
        np.testing.assert_allclose(made.confusion[3].diagonal(), [0.3, 0.9], atol=0.17)


def test_the_consensus_is_a_fixed_point_of_bayes_rule() -> None:
    """Reference: posteriors written out from prior and confusions, item by item."""
    given, _ = crowd(1, 30)
    made = dawid_skene(given)
    for item in range(30):
        chances = made.prior.copy()
        for who, said in zip(given.who[given.item == item], given.said[given.item == item], strict=True):
            chances *= made.confusion[who, :, said]
        np.testing.assert_allclose(made.posterior[item], chances / chances.sum(), atol=1e-6)


def test_a_majority_is_the_mode_of_the_votes_and_its_share() -> None:
    """Reference: scipy's mode, record by record."""
    given, _ = crowd(2, 60)
    shares = consensus(given, "majority")
    for item in range(60):
        found = mode(given.said[given.item == item])
        assert shares[item, found.mode] == shares[item].max() == found.count / (given.item == item).sum()
    np.testing.assert_array_equal(consensus(given, "dawid_skene"), dawid_skene(given).posterior)


def test_kappa_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(0, 3, (2, 40))
        assert kappa(first, second, 3) == pytest.approx(cohen_kappa_score(first, second))
    assert kappa(np.zeros(4, int), np.zeros(4, int), 3) == 1


def test_contradicted_labels_and_gold_checks_through_the_step(tmp_path: Path) -> None:
    given, trusted = dataset(100), dataset(40, "t")
    with (tmp_path / "votes.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["record_id", "annotator", "label"])
        for part in (given, trusted):
            for k, name in enumerate(part.record_ids):
                wrong = part is given and k < 3
                for who in ("ann", "bob", "carl"):
                    said = k % 2 if not wrong else 1 - k % 2
                    writer.writerow([name, who, CLASSES[said if who != "carl" or k % 5 else 1 - said]])
    document = run(tmp_path, given, trusted, annotators={"file": str(tmp_path / "votes.csv"), "action": "quarantine"})
    assert Dataset.load(tmp_path / "quarantine").record_ids == ["v/b:0", "v/b:1", "v/b:2"]
    facts = {it["annotator"]: it for it in document["annotators"]}
    assert (facts["ann"]["gold"]["value"], facts["carl"]["gold"]["value"]) == (1.0, 0.8)
    assert facts["carl"]["gold"]["low"] < 0.8 < facts["carl"]["gold"]["high"]
    assert facts["ann"]["kappa"] == 1.0
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["record,annotator,label"],
        ["record_id,annotator,label"],
        ["record_id,annotator,label", "v/b:0,ann,maybe"],
        ["record_id,annotator,label", "v/b:0,ann"],
        ["record_id,annotator,label", "v/b:0,,y"],
        ["record_id,annotator,label", "v/b:0,ann,y", "v/b:0,ann,n"],
        ["record_id,annotator,label", '"v/b:0,ann,y'],
    ],
)
def test_annotations_are_read_strictly(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(UnfitInput):
        read_annotations(tmp_path / "a.csv", CLASSES)


def test_a_proposed_suite_passes_every_trusted_record_and_refuses_few_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from assay.cli.main import run as cli

    trusted = dataset(300, "t", colour=["red", "green", "blue"] * 100)
    trusted.save(tmp_path / "t")
    given = ["sanitize", str(tmp_path / "t"), "--propose", str(tmp_path / "suite.yaml"), "--json"]
    assert cli(given) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["alarm"] == pytest.approx(6 / 301)
    assert {it["kwargs"]["column"] for it in document["suite"]} == {"f0", "f1", "f2", "colour"}
    other = dataset(400, "v", colour=[*["red", "green", "blue"] * 3, "puce"] * 40)
    other.save(tmp_path / "v")
    for name in ("t", "v"):
        places = ["--out", str(tmp_path / f"{name}-k"), "--quarantine", str(tmp_path / f"{name}-q")]
        assert cli(["sanitize", str(tmp_path / name), *places, "--config", str(tmp_path / "suite.yaml"), "--json"]) == 0
        gone = json.loads(capsys.readouterr().out)["quarantined"]
        assert gone == 0 if name == "t" else 40 <= gone <= 40 + binom.ppf(1 - 1e-6, 360, 3 * 6 / 301)
    assert cli(given) == 2
    assert cli(["sanitize", str(tmp_path / "t")]) == 2
