"""The step and its verb: what is written, what is found, what is refused; nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluate_cases import linear_model
from sklearn.datasets import load_digits

from assay import canonical
from assay.cli.main import run as cli
from assay.config.base import parse
from assay.config.encoder import EncoderConfig
from assay.config.filters import DETECTORS, FilterConfig
from assay.data.dataset import Dataset, features
from assay.data.dataset import labels as labels_of
from assay.data.findings import read_findings
from assay.data.manifest import BatchShare, History
from assay.devices import device_name, device_of
from assay.errors import AssayError, UnfitInput, UnknownName
from assay.filters.spectral import Spectral
from assay.filters.step import filter_poison, filter_poison_json
from assay.models.encoder import load_encoder
from assay.poison import Patch, flip_labels, plant

QUICK = FilterConfig(permutations=199)
PLACES = ("kept", "quarantine", "scores")


def make(x: np.ndarray, labels: np.ndarray, source: np.ndarray, classes: int = 10, batches: int = 1) -> Dataset:
    """A dataset of images (N, H, W) or table rows (N, D); ``source`` names the source of every record."""
    names = [f"{name}/b{row % batches}" for row, name in enumerate(source)]
    if x.ndim == 3:
        columns: dict[str, Any] = {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(x))}
    else:
        columns = {f"f{k}": x[:, k] for k in range(x.shape[1])}
    table = pa.table({"batch": names, "row": np.arange(len(x)), **columns, "label": labels})
    shares = tuple(BatchShare(*name.split("/"), sha256="0" * 64, records=0) for name in sorted(set(names)))
    return Dataset.make(table, [f"c{k}" for k in range(classes)], History("ingest", "dataset", shares))


def digits(planted: int = 50, target: int = 3, seed: int = 0, n: int = 900) -> tuple[Dataset, Dataset, set[str]]:
    """Digits of three sources, one of which plants a patch; trusted records; the planted record ids."""
    rng = np.random.default_rng(seed)
    bundle = load_digits()
    order = rng.permutation(len(bundle.target))
    images, labels = (bundle.images[order] / 16).astype(np.float32), bundle.target[order].astype(np.int64)
    source = np.array(["alpha", "beta", "gamma"])[np.arange(n) % 3]
    x, y, bad = images[:n], labels[:n], np.zeros(n, dtype=np.bool_)
    if planted:
        found = plant(x[:, None], y, Patch(), target=target, count=planted, generator=rng, among=source == "beta")
        x, y, bad = found.images[:, 0], found.labels, found.planted
    trusted = make(images[n : n + 250], labels[n : n + 250], np.full(250, "trusted"))
    return make(x, y, source), trusted, {f"beta/b0:{row}" for row in np.flatnonzero(bad)}


def rows(seed: int = 0, n: int = 120, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A separable table of three sources."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) // 3 % classes
    x = rng.standard_normal((n, 4)) + 4 * np.eye(4)[labels]
    return x, labels, np.array(["a", "b", "c"])[np.arange(n) % 3]


def call(
    folder: Path,
    given: Dataset,
    trusted: Dataset | None = None,
    config: FilterConfig = QUICK,
) -> dict[str, Any]:
    """Save the inputs, run the step into the folder."""
    given.save(folder / "in")
    if trusted is not None:
        trusted.save(folder / "trusted")
    places = {name: folder / name for name in PLACES}
    calibration = folder / "trusted" if trusted is not None else None
    page = folder / "page.html"
    return filter_poison(folder / "in", config, **places, calibration=calibration, page=page)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Dataset, set[str]]:
    """One run on poisoned digits."""
    folder = tmp_path_factory.mktemp("found")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_HOME", str(folder / ".assay"))
        given, trusted, bad = digits()
        return folder, call(folder, given, trusted), given, bad


Found = tuple[Path, dict[str, Any], Dataset, set[str]]


def test_planted_digits_leave_and_clean_ones_stay(found: Found) -> None:
    folder, _, given, bad = found
    gone = set(Dataset.load(folder / "quarantine").record_ids)
    assert len(gone & bad) >= 0.9 * len(bad)
    assert len(gone - bad) <= 0.03 * (len(given) - len(bad))


def test_kept_and_quarantined_are_the_input(found: Found) -> None:
    folder, document, given, _ = found
    kept, gone = Dataset.load(folder / "kept"), Dataset.load(folder / "quarantine")
    assert sorted(kept.record_ids + gone.record_ids) == sorted(given.record_ids)
    assert (document["kept"], document["quarantined"]) == (len(kept), len(gone))
    assert kept.manifest.history.parents == (given.manifest.digest,)


def test_the_document_says_what_was_found(found: Found) -> None:
    folder, document, _, _ = found
    kept = Dataset.load(folder / "kept").manifest
    assert document["dataset"] == {
        "path": str(folder / "kept"), "digest": kept.digest, "content_digest": kept.content_digest,
    }  # fmt: skip
    assert sum(document["reasons"].values()) == document["quarantined"]
    flagged = [one for one in document["classes"] if one["status"] == "poisoned"]
    assert [(one["label"], one["origin"], one["p_value"]) for one in flagged] == [("c3", "beta", 1 / 200)]
    assert flagged[0]["quarantined"] == document["quarantined"]
    assert len(document["classes"]) == 10
    assert document["silent"] == {}
    canonical.dumps(document)
    assert document["power"] is None  # no self-test was asked for
    parameters = Dataset.load(folder / "kept").manifest.history.parameters
    assert "power" not in parameters
    assert parameters["device"] == device_name(device_of("auto", ""))  # what it was, not what was asked for
    assert "No trials were asked for" in (folder / "page.html").read_text()


def test_every_record_has_every_score_and_a_decision(found: Found) -> None:
    folder, document, given, _ = found
    table = pq.read_table(document["scores"])
    assert table.column_names == ["record_id", *sorted(QUICK.detectors), "decision"]
    assert table["record_id"].to_pylist() == given.record_ids
    for name in QUICK.detectors:
        assert np.isfinite(table[name].to_numpy()).all()
    said = dict(zip(table["record_id"].to_pylist(), table["decision"].to_pylist(), strict=True))
    gone = set(Dataset.load(folder / "quarantine").record_ids)
    assert {name for name, word in said.items() if word == "quarantine"} == gone
    assert set(said.values()) == {"keep", "quarantine"}


def test_every_removal_has_its_finding_beside_it_and_in_the_ledger(found: Found) -> None:
    folder, document, _, _ = found
    data = (folder / "quarantine" / "findings.parquet").read_bytes()
    findings = read_findings(data)
    assert sorted(finding.record_id for finding in findings) == sorted(Dataset.load(folder / "quarantine").record_ids)
    assert {finding.action for finding in findings} == {"quarantine"}
    assert {finding.reason for finding in findings} == set(document["reasons"])
    digest = Dataset.load(folder / "kept").manifest.history.findings
    assert (folder / ".assay" / "ledger" / "findings" / f"{digest}.parquet").read_bytes() == data


def test_the_page_shows_the_answer_the_cluster_the_pictures_and_the_sources(found: Found) -> None:
    folder, _, _, _ = found
    page = (folder / "page.html").read_text()
    for text in ("poison found", "Class c3", "in two dimensions", "data:image/png", "Ranked by share of suspects"):
        assert text in page
    ranked = page[page.index("Ranked by share of suspects") :]
    assert ranked.index("beta") < ranked.index("alpha")
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes(found: Found, tmp_path: Path) -> None:
    folder, _, _, _ = found
    places = {name: tmp_path / name for name in PLACES}
    filter_poison(folder / "in", QUICK, **places, calibration=folder / "trusted", page=tmp_path / "page.html")
    for name in ("kept", "quarantine"):
        one, two = canonical.tree_files(folder / name), canonical.tree_files(tmp_path / name)
        assert one == two
    assert (folder / "scores").read_bytes() == (tmp_path / "scores").read_bytes()
    assert (folder / "page.html").read_bytes() == (tmp_path / "page.html").read_bytes()


@pytest.mark.slow
def test_clean_digits_lose_nothing(tmp_path: Path) -> None:
    given, trusted, _ = digits(planted=0)
    document = call(tmp_path, given, trusted)
    assert document["quarantined"] == 0
    assert Dataset.load(tmp_path / "kept").manifest.content_digest == given.manifest.content_digest
    assert "no poison found" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_without_trusted_records_the_other_sources_suffice(tmp_path: Path) -> None:
    given, _, bad = digits(seed=1)
    document = call(tmp_path, given)
    gone = set(Dataset.load(tmp_path / "quarantine").record_ids)
    assert len(gone & bad) >= 0.9 * len(bad)
    assert len(gone - bad) <= 0.03 * (len(given) - len(bad))
    assert list(document["silent"]) == ["trusted_mahalanobis"]


@pytest.mark.parametrize("detectors", [DETECTORS, ("disagreement", "neighbours")], ids=["all", "by labels"])
def test_flipped_labels_of_one_source_in_a_table_leave(tmp_path: Path, detectors: tuple[str, ...]) -> None:
    x, labels, source = rows(n=450)
    among = (source == "b") & (labels != 0)
    flipped, mask = flip_labels(labels, count=40, classes=3, generator=np.random.default_rng(0), target=0, among=among)
    config = FilterConfig(permutations=199, detectors={name: {} for name in detectors})
    document = call(tmp_path, make(x, flipped, source, classes=3), config=config)
    gone = set(Dataset.load(tmp_path / "quarantine").record_ids)
    bad = {f"b/b0:{row}" for row in np.flatnonzero(mask)}
    assert len(gone & bad) >= 36
    assert len(gone - bad) <= 4
    labels_alone = {"label_disagreement", "neighbour_disagreement"}
    assert (labels_alone if detectors != DETECTORS else labels_alone | {"source_shift"}) & set(document["reasons"])


@pytest.mark.slow
def test_where_a_class_would_lose_most_the_answer_is_needs_review_and_nothing_is_written(tmp_path: Path) -> None:
    """More poison than clean in the class: whichever part is removed, somebody has to look first."""
    given, trusted, _ = digits(planted=160)
    with pytest.raises(AssayError, match=r"needs review.*class 'c3'") as caught:
        call(tmp_path, given, trusted)
    assert caught.value.exit_code == 3
    assert not any((tmp_path / name).exists() for name in PLACES)
    assert "needs review" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_an_honest_minority_of_one_source_is_not_removed_in_silence(tmp_path: Path) -> None:
    """All threes of one source carry a bar, honestly labelled: a cluster with no rest of the source to compare with."""
    given, trusted, _ = digits(planted=0, seed=4)
    x = np.concatenate([chunk.to_numpy_ndarray() for chunk in given.table["image"].chunks]).copy()
    labels = given.table["label"].to_numpy()
    source = np.array([name.split("/")[0] for name in given.table["batch"].to_pylist()])
    bar = (source == "beta") & (labels == 3)
    x[bar, 3:5] = np.maximum(x[bar, 3:5], 0.9)
    with pytest.raises(AssayError, match=r"needs review.*class 'c3' of source 'beta'"):
        call(tmp_path, make(x, labels, source), trusted)
    assert not any((tmp_path / name).exists() for name in PLACES)


@pytest.mark.slow
def test_a_source_with_another_instrument_is_not_removed_in_silence(tmp_path: Path) -> None:
    """Scans of one source are one pixel off: it differs in every class, which no backdoor does."""
    given, trusted, _ = digits(planted=0, seed=5)
    x = np.concatenate([chunk.to_numpy_ndarray() for chunk in given.table["image"].chunks]).copy()
    source = np.array([name.split("/")[0] for name in given.table["batch"].to_pylist()])
    x[source == "beta"] = np.roll(x[source == "beta"], 1, axis=2)
    with pytest.raises(AssayError, match=r"needs review.*source 'beta' in classes"):
        call(tmp_path, make(x, given.table["label"].to_numpy(), source), trusted)


@pytest.mark.slow
def test_a_source_with_three_in_ten_labels_wrong_is_for_a_person_to_look_at(tmp_path: Path) -> None:
    """Its proxy learned from right labels and the others' from wrong ones, so that its clean records differ, too."""
    given, trusted, _ = digits(planted=0, seed=6, n=1200)
    x = np.concatenate([chunk.to_numpy_ndarray() for chunk in given.table["image"].chunks])
    source = np.array([name.split("/")[0] for name in given.table["batch"].to_pylist()])
    options: dict[str, Any] = {"count": 120, "classes": 10, "generator": np.random.default_rng(6)}
    labels, _ = flip_labels(given.table["label"].to_numpy(), among=source == "beta", **options)
    with pytest.raises(AssayError, match=r"needs review.*source 'beta' in classes"):
        call(tmp_path, make(x, labels, source), trusted)


@pytest.mark.slow
def test_a_cap_of_one_says_that_somebody_has_looked(tmp_path: Path) -> None:
    given, trusted, bad = digits(planted=160)
    call(tmp_path, given, trusted, FilterConfig(permutations=199, removal_cap=1.0))
    gone = set(Dataset.load(tmp_path / "quarantine").record_ids)
    assert len(gone & bad) >= 0.9 * len(bad)


def test_one_source_in_one_batch_without_trusted_records_is_unmeasured(tmp_path: Path) -> None:
    x, labels, _ = rows()
    document = call(tmp_path, make(x, labels, np.full(120, "only"), classes=3))
    assert {one["status"] for one in document["classes"]} == {"unmeasured"}
    assert {one["p_value"] for one in document["classes"]} == {None}
    assert document["quarantined"] == 0
    assert "unmeasured" in (tmp_path / "page.html").read_text()


def test_one_source_in_several_batches_is_told_apart_by_batch(tmp_path: Path) -> None:
    x, labels, _ = rows()
    document = call(tmp_path, make(x, labels, np.full(120, "only"), classes=3, batches=2))
    assert {one["status"] for one in document["classes"]} == {"clean"}


def test_a_class_of_three_records_and_constant_features_are_no_obstacle(tmp_path: Path) -> None:
    x, labels, source = rows()
    x[:, 2] = 5.0
    few = np.concatenate([np.flatnonzero(labels == 0)[:3], np.flatnonzero(labels > 0)])
    document = call(tmp_path, make(x[few], labels[few], source[few], classes=3))
    by_label = {one["label"]: one["status"] for one in document["classes"]}
    assert by_label == {"c0": "unmeasured", "c1": "clean", "c2": "clean"}
    assert document["quarantined"] == 0


def test_features_that_are_all_constant_lose_nothing(tmp_path: Path) -> None:
    _, labels, source = rows()
    document = call(tmp_path, make(np.ones((120, 4)), labels, source, classes=3))
    assert document["quarantined"] == 0


def test_trusted_records_that_lack_a_class_silence_only_who_needs_them(tmp_path: Path) -> None:
    x, labels, source = rows()
    more, other, _ = rows(1)
    some = other > 0
    trusted = make(more[some], other[some], np.full(int(some.sum()), "trusted"), classes=3)
    document = call(tmp_path, make(x, labels, source, classes=3), trusted)
    assert list(document["silent"]) == ["resampled", "trusted_mahalanobis", "two_sample_texture"]  # it is a table, too


def test_nan_one_class_and_another_schema_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    x, labels, source = rows()
    broken = x.copy()
    broken[3, 1] = np.nan
    cases = {
        "NaN": (make(broken, labels, source, classes=3), None),
        "one class": (make(x, np.zeros(120, dtype=np.int64), source, classes=3), None),
        "same classes": (
            make(x, labels, source, classes=3),
            make(x[:, :3], labels, np.full(120, "trusted"), classes=3),
        ),
    }
    for number, (match, (given, trusted)) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        with pytest.raises(UnfitInput, match=match):
            call(folder, given, trusted)
        assert not any((folder / name).exists() for name in PLACES)


def test_a_given_model_is_the_encoder_and_is_named_in_the_history(tmp_path: Path) -> None:
    """Activations of a linear model are its inputs, so the detectors see the table itself."""
    x, labels, source = rows()
    given = make(x, labels, source, classes=3)
    digest = linear_model(tmp_path / "model", np.eye(4)[:3], np.zeros(3), features(given)[:4], (-20.0, 20.0))
    chosen = EncoderConfig(model=str(tmp_path / "model"))
    encode = load_encoder(chosen, "filter.encoder")
    np.testing.assert_allclose(encode(features(given)), features(given))
    assert encode(features(given)[:0]).shape == (0, 4)
    call(tmp_path, given, config=QUICK.model_copy(update={"encoder": chosen}))
    assert Dataset.load(tmp_path / "kept").manifest.history.parameters["encoder"]["model"] == digest
    table = pq.read_table(tmp_path / "scores")
    expected = Spectral().suspicion(features(given), labels_of(given))
    np.testing.assert_allclose(table["spectral"].to_numpy(), expected)


def test_an_encoder_of_the_wrong_shape_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    x, labels, source = rows()
    linear_model(tmp_path / "model", np.ones((3, 5)), np.zeros(3), np.zeros((4, 5), np.float32), (-20.0, 20.0))
    config = QUICK.model_copy(update={"encoder": EncoderConfig(model=str(tmp_path / "model"))})
    with pytest.raises(UnfitInput, match=r"records of shape \(4,\), need \(5,\), which the model reads"):
        call(tmp_path, make(x, labels, source, classes=3), config=config)
    assert not any((tmp_path / name).exists() for name in PLACES)


def test_a_detector_nobody_knows_is_named_with_the_nearest(tmp_path: Path) -> None:
    x, labels, source = rows()
    config = parse(FilterConfig, {"detectors": {"spectrum": {}}}, "filter")
    with pytest.raises(UnknownName, match="spectral"):
        call(tmp_path, make(x, labels, source, classes=3), config=config)


def test_no_detector_is_refused() -> None:
    with pytest.raises(UnfitInput):
        parse(FilterConfig, {"detectors": {}}, "filter")


def test_the_verb_answers_as_the_step_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, labels, source = rows()
    make(x, labels, source, classes=3).save(tmp_path / "in")
    arguments = [str(tmp_path / "in"), "--out", str(tmp_path / "kept"), "--quarantine", str(tmp_path / "gone")]
    assert cli(["filter", *arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kept"] == 120
    assert document["scores"] == str(tmp_path / "kept.scores.parquet")
    assert Path(document["scores"]).is_file()
    again = filter_poison_json(str(tmp_path / "in"), "", **{name: str(tmp_path / "again" / name) for name in PLACES})
    assert again["dataset"]["digest"] == document["dataset"]["digest"]


def test_the_verb_says_in_words_what_each_class_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, labels, source = rows(n=450)
    among = (source == "b") & (labels != 0)
    flipped, _ = flip_labels(labels, count=40, classes=3, generator=np.random.default_rng(0), target=0, among=among)
    make(x, flipped, source, classes=3).save(tmp_path / "in")
    arguments = [str(tmp_path / "in"), "--out", str(tmp_path / "kept"), "--quarantine", str(tmp_path / "gone")]
    assert cli(["filter", *arguments]) == 0
    said = capsys.readouterr().out
    assert "class c0" in said
    assert "poisoned" in said
    assert "in b" in said


def test_the_verb_leaves_with_two_where_the_input_is_wrong(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "none"), "--out", str(tmp_path / "kept"), "--quarantine", str(tmp_path / "gone")]
    assert cli(["filter", *arguments]) == 2
    assert not (tmp_path / "kept").exists()
