"""The step monitor: what it decides, how often it is wrong, and what it never says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom

from assay import canonical
from assay.cli.main import run as assay
from assay.config.base import parse
from assay.config.monitor import MonitorConfig
from assay.data.dataset import Dataset
from assay.data.manifest import BatchShare, History
from assay.drift.decide import band, decide
from assay.drift.feature import Pair
from assay.errors import Refused, UnfitInput, UnknownName
from assay.monitor import ACTIONS, compare, monitor, record_action

SETTINGS = MonitorConfig()


def make(columns: dict[str, Any], batch: str = "window") -> Dataset:
    size = len(columns["label"])
    table = pa.table({"batch": [f"a/{batch}"] * size, "row": range(size)} | columns)
    return Dataset.make(table, ("no", "yes"), History("ingest", "kept", (BatchShare("a", batch, "0" * 64, 0),)))


def window(seed: int, size: int, batch: str = "window", **changes: Any) -> Dataset:
    """Two numbers, a category with a rare value, and a label; changes replace columns."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {
        "age": rng.normal(50, 10, size),
        "dose": np.round(rng.exponential(2.0, size), 1),
        "ward": rng.choice(["north", "south", "rare"], size, p=[0.6, 0.39, 0.01]),
        "label": rng.integers(0, 2, size),
    }
    return make(columns | changes, batch)


class Windows:
    """A reference on disk, and the monitor's answer for a window."""

    def __init__(self, folder: Path, reference: Dataset) -> None:
        self.folder, self.reference = folder, reference
        reference.save(folder / "reference")

    def ask(self, current: Dataset, config: MonitorConfig = SETTINGS, **more: Any) -> dict[str, Any]:
        place = self.folder / current.manifest.digest[:12]
        current.save(place)
        return monitor(self.folder / "reference", place, config, **more)


@pytest.fixture
def windows(tmp_path: Path) -> Windows:
    return Windows(tmp_path, window(0, 2000, "reference"))


def test_an_unchanged_world_goes_on(windows: Windows) -> None:
    answer = windows.ask(window(1, 1000))
    assert (answer["action"], answer["cause"]) == ("continue", "no_drift")
    assert {finding["feature"] for finding in answer["findings"]} == {"age", "dose", "ward", "label"}
    assert answer["reference"] == windows.reference.manifest.digest


def test_a_large_shift_of_one_feature_calls_for_training(windows: Windows) -> None:
    answer = windows.ask(window(1, 1000, age=np.random.default_rng(5).normal(60, 10, 1000)))
    assert (answer["action"], answer["cause"]) == ("retrain", "feature_drift")
    assert "age" in answer["because"]
    assert "dose" not in answer["because"]


def test_a_category_never_seen_is_not_overlooked(windows: Windows) -> None:
    ward = np.where(np.arange(1000) % 5 == 0, "west", "north")
    answer = windows.ask(window(1, 1000, ward=ward))
    assert answer["action"] == "retrain"
    assert "ward" in answer["because"]


@pytest.mark.parametrize(
    ("shift", "action"), [(0.0, "continue"), (0.2, "watch"), (0.4, "investigate"), (1.0, "retrain")]
)
def test_the_action_follows_the_size_of_a_sure_change(tmp_path: Path, shift: float, action: str) -> None:
    """A shift of d standard deviations has a psi of about d squared."""
    rng = np.random.default_rng(2)
    size = 20_000
    reference = Windows(tmp_path, window(0, size, "reference"))
    assert reference.ask(window(1, size, age=rng.normal(50 + 10 * shift, 10, size)))["action"] == action


def test_a_shift_of_labels_alone_is_named(windows: Windows) -> None:
    answer = windows.ask(window(1, 1000, label=(np.arange(1000) % 10 == 0).astype(np.int64)))
    assert (answer["action"], answer["cause"]) == ("retrain", "label_drift")


@pytest.mark.slow
def test_no_change_alarms_no_more_often_than_the_stated_rate() -> None:
    """Statistical: 1,000 unchanged windows of four features; a correct build fails at most once in 10**6 seeds."""
    config, rng, alarms, sure = (
        parse(MonitorConfig, {"false_alarm_rate": 0.05}, "monitor"),
        np.random.default_rng(3),
        0,
        0,
    )
    for seed in range(1000):
        pairs = [
            Pair("age", "number", rng.normal(size=200), rng.normal(size=120)),
            Pair("dose", "number", np.round(rng.exponential(2, 200), 1), np.round(rng.exponential(2, 120), 1)),
            Pair("ward", "category", *(rng.choice(list("abc"), size, p=[0.6, 0.37, 0.03]) for size in (200, 120))),
            Pair("label", "category", *(rng.choice(["no", "yes"], size) for size in (200, 120))),
        ]
        findings, answer = compare(pairs, config.model_copy(update={"seed": seed}), (200, 120))
        alarms += answer["action"] in ("investigate", "retrain")
        sure += any(finding.adjusted_p_value <= 0.05 for finding in findings if finding.adjusted_p_value is not None)
    assert alarms <= sure <= binom.ppf(1 - 1e-6, 1000, 0.05)
    assert sure >= binom.ppf(1e-6, 1000, 0.015), "a monitor that hardly ever alarms"


def test_slow_drift_is_found_against_a_pinned_reference(tmp_path: Path) -> None:
    """0.03 standard deviations a day: each day is like the day before, and none is for long like the reference."""
    rng = np.random.default_rng(4)
    pinned = Windows(tmp_path, window(0, 2000, "reference"))
    days = [window(100 + day, 1000, age=rng.normal(50 + 0.3 * day, 10, 1000)) for day in range(1, 31)]
    actions = [pinned.ask(day)["action"] for day in days]
    first = next(day for day, action in enumerate(actions, 1) if action in ("investigate", "retrain"))
    assert first <= 15
    assert set(actions[20:]) == {"retrain"}
    rolling = Windows(tmp_path / "rolling", days[-2])
    assert rolling.ask(days[-1])["action"] == "continue"


# what cannot be judged


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("share", ["one", "all"])
def test_values_that_are_not_finite_never_read_as_no_drift(windows: Windows, bad: float, share: str) -> None:
    age = np.full(1000, bad) if share == "all" else np.append(np.random.default_rng(5).normal(50, 10, 999), bad)
    answer = windows.ask(window(1, 1000, age=age))
    assert (answer["action"], answer["cause"]) == ("undecided", "unfit_values")
    assert [finding["p_value"] for finding in answer["findings"] if finding["feature"] == "age"] == [None, None]


def test_values_that_are_not_finite_never_start_a_training(windows: Windows) -> None:
    age = np.full(1000, np.nan)
    ward = np.full(1000, "west")
    answer = windows.ask(window(1, 1000, age=age, ward=ward))
    assert (answer["action"], answer["cause"]) == ("investigate", "unfit_values")


@pytest.mark.parametrize("size", [0, 1, 2, 49])
def test_a_window_too_small_never_reads_as_no_drift(windows: Windows, size: int) -> None:
    answer = windows.ask(window(1, size))
    assert (answer["action"], answer["cause"]) == ("undecided", "too_few_records")


def test_a_reference_too_small_is_undecided_too(tmp_path: Path) -> None:
    answer = Windows(tmp_path, window(0, 20, "reference")).ask(window(1, 1000))
    assert (answer["action"], answer["cause"]) == ("undecided", "too_few_records")
    assert answer["because"] == "20 reference and 1000 current records; 50 of each are needed."


@pytest.mark.parametrize("size", [0, 30])
def test_a_window_of_few_images_never_reads_as_no_drift(tmp_path: Path, size: int) -> None:
    def pictures(count: int) -> Any:
        cells = np.random.default_rng(count).random((count, 4, 4)).astype(np.float32)
        return pa.FixedShapeTensorArray.from_numpy_ndarray(cells) if count else EMPTY

    EMPTY = pa.array([], pa.list_(pa.float32(), 16)).cast(pa.fixed_shape_tensor(pa.float32(), [4, 4]))
    reference = Windows(tmp_path, make({"image": pictures(200), "label": np.arange(200) % 2}, "reference"))
    answer = reference.ask(make({"image": pictures(size), "label": np.arange(size) % 2}))
    assert (answer["action"], answer["cause"]) == ("undecided", "too_few_records")


def test_a_window_that_chance_alone_could_move_that_far_is_watched(windows: Windows) -> None:
    answer = windows.ask(window(1, 80))
    assert (answer["action"], answer["cause"]) == ("watch", "too_few_records")
    needed = int(answer["next_check"].rpartition("least ")[2].partition(" ")[0].replace(",", ""))
    assert windows.ask(window(2, needed + 1))["action"] == "continue"


def test_missing_values_are_compared_where_the_reference_has_them_too(tmp_path: Path) -> None:
    def some_missing(seed: int, size: int, share: float) -> Any:
        rng = np.random.default_rng(seed)
        return pa.array(rng.normal(50, 10, size), mask=rng.random(size) < share)

    reference = Windows(tmp_path, window(0, 2000, "reference", age=some_missing(1, 2000, 0.1)))
    same = reference.ask(window(1, 1000, age=some_missing(2, 1000, 0.1)))
    assert same["action"] == "continue"
    assert "age.missing" in {finding["feature"] for finding in same["findings"]}
    more = reference.ask(window(1, 1000, age=some_missing(3, 1000, 0.5)))
    assert more["action"] == "retrain"
    assert "age.missing" in more["because"]


def test_too_few_values_of_one_feature_leave_it_undecided(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    reference = Windows(
        tmp_path, window(0, 2000, "reference", age=pa.array(rng.normal(size=2000), mask=rng.random(2000) < 0.5))
    )
    answer = reference.ask(window(1, 1000, age=pa.array(rng.normal(size=1000), mask=np.arange(1000) >= 49)))
    assert {one["action"] for one in answer["findings"] if one["feature"] == "age"} == {"undecided"}
    assert (answer["action"], answer["cause"]) == ("investigate", "unfit_values")


def test_one_drifted_feature_among_many_is_found_by_permutations_alone() -> None:
    """The number of permutations follows the number of looks, or no p-value could ever be small enough."""
    rng = np.random.default_rng(6)
    pairs = [Pair(f"f{k}", "number", rng.normal(size=500), rng.normal(size=500)) for k in range(40)]
    pairs.append(Pair("moved", "number", rng.normal(size=500), rng.normal(2.0, size=500)))
    _, answer = compare(pairs, parse(MonitorConfig, {"statistics": ["psi"]}, "monitor"), (500, 500))
    assert answer["action"] == "retrain"
    assert answer["because"].startswith("Drifted: moved (psi")


def test_every_look_draws_for_itself() -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(size=300), rng.normal(0.15, size=300)
    found, _ = compare([Pair(name, "number", *values) for name in ("a", "b")], SETTINGS, (300, 300))
    first, second = (finding.p_value for finding in found if finding.statistic == "psi")
    assert first != second


def test_a_null_category_the_reference_never_had_is_undecided(windows: Windows) -> None:
    ward = pa.array(["north"] * 999 + [None])
    assert windows.ask(window(1, 1000, ward=ward))["action"] in ("undecided", "investigate")


def test_other_columns_are_refused(windows: Windows) -> None:
    with pytest.raises(UnfitInput, match="extra"):
        windows.ask(window(1, 100, extra=np.zeros(100)))


def test_a_reference_that_is_not_the_pinned_one_is_refused(windows: Windows) -> None:
    pinned = SETTINGS.model_copy(update={"reference_digest": windows.reference.manifest.digest})
    assert windows.ask(window(1, 1000), pinned)["action"] == "continue"
    with pytest.raises(Refused, match="pinned"):
        windows.ask(window(1, 1000), SETTINGS.model_copy(update={"reference_digest": "0" * 64}))


def test_statistics_that_speak_for_no_kind_of_a_feature_are_refused(windows: Windows) -> None:
    with pytest.raises(UnfitInput, match="category"):
        windows.ask(window(1, 1000), parse(MonitorConfig, {"statistics": ["ks"]}, "monitor"))
    with pytest.raises(UnknownName):
        windows.ask(window(1, 1000), parse(MonitorConfig, {"statistics": ["kss"]}, "monitor"))


@pytest.mark.parametrize(
    "settings",
    [{"false_alarm_rate": 0}, {"false_alarm_rate": 1}, {"watch_psi": 0.3}, {"statistics": []}, {"least_records": 1},
     {"reference_digest": "short"}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UnfitInput):
        parse(MonitorConfig, settings, "monitor")


def test_nothing_measured_decides_nothing() -> None:
    assert decide([], SETTINGS, (1000, 1000)).action == "undecided"
    assert band(float("nan"), 0.0, SETTINGS) == "undecided"
    assert band(0.0, float("nan"), SETTINGS) == "undecided"


# images, files, faces


def images(seed: int, size: int, bright: int = 0, batch: str = "window") -> Dataset:
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(100 + bright, 30, (size, 6, 6)), 0, 255).astype(np.uint8)
    return make({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels), "label": np.arange(size) % 2}, batch)


def test_images_are_compared_by_their_brightness_and_contrast(tmp_path: Path) -> None:
    reference = Windows(tmp_path, images(0, 1000, batch="reference"))
    same = reference.ask(images(1, 500))
    assert same["action"] == "continue"
    names = {finding["feature"] for finding in same["findings"]}
    assert names == {"image.mean", "image.std", "image.min", "image.max", "label"}
    brighter = reference.ask(images(2, 500, bright=20))
    assert brighter["action"] == "retrain"
    assert "image.mean" in brighter["because"]


def test_the_same_window_gives_the_same_bytes(windows: Windows, tmp_path: Path) -> None:
    current = window(1, 1000)
    windows.ask(current, findings=tmp_path / "a.json", page=tmp_path / "a.html")
    windows.ask(current, findings=tmp_path / "b.json", page=tmp_path / "b.html")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert canonical.read(tmp_path / "a.json")["schema"] == "assay.monitor/v1"


def test_one_more_feature_leaves_the_draws_of_the_others_alone(windows: Windows, tmp_path: Path) -> None:
    before = windows.ask(window(1, 1000))
    extra = {"extra": np.zeros(2000)}
    more = Windows(tmp_path / "more", window(0, 2000, "reference", **extra))
    after = more.ask(window(1, 1000, extra=np.zeros(1000)))

    def p_values(answer: dict[str, Any]) -> dict[str, float]:
        found = answer["findings"]
        return {f"{one['feature']}/{one['statistic']}": one["p_value"] for one in found if one["feature"] != "extra"}

    assert p_values(before) == p_values(after)


def test_the_page_stands_alone_and_escapes_what_a_supplier_wrote(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    reference = Windows(tmp_path, window(0, 200, "reference", **{evil: np.full(200, evil)}))
    page = tmp_path / "page.html"
    reference.ask(window(1, 200, **{evil: np.full(200, evil)}), page=page)
    text = page.read_text()
    assert "<script" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert text.count("<svg") == 5


@pytest.mark.parametrize(
    ("change", "code", "action"),
    [
        ({}, 0, "continue"),
        ({"age": np.full(1000, 90.0)}, 1, "retrain"),
        ({"age": np.full(1000, np.nan)}, 3, "undecided"),
    ],
)
def test_the_verb_says_so_by_its_exit_code(
    windows: Windows, capsys: pytest.CaptureFixture[str], change: dict[str, Any], code: int, action: str
) -> None:
    window(1, 1000, **change).save(windows.folder / "current")
    places = ["--reference", str(windows.folder / "reference"), "--current", str(windows.folder / "current")]
    assert assay(["monitor", *places, "--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert answer["action"] == action
    assert {"action", "cause", "next_check", "findings"} <= set(answer)
    assert {"feature", "statistic", "value", "p_value"} <= set(answer["findings"][0])
    assert assay(["monitor", *places]) == code
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{action}: ")
    assert assay(["monitor", *places, "--reference-digest", "0" * 64]) == 1


def test_an_action_that_starts_no_training_is_written_down(tmp_path: Path) -> None:
    for action in ACTIONS:
        assert record_action(action, str(tmp_path / "summary.md")) == action
        assert action in (tmp_path / "summary.md").read_text()
    with pytest.raises(UnknownName):
        record_action("panic", str(tmp_path / "summary.md"))
