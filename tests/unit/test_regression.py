"""A model of quantities, from a file of records to a verdict; and what is about classes says so by name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from model_cases import history, spec
from torch import nn

from assay.cli.main import run
from assay.config.base import parse
from assay.config.evaluate import EvaluateConfig
from assay.config.gate import PolicyConfig
from assay.config.ingest import IngestConfig, SourceConfig
from assay.config.train import TrainConfig
from assay.data.dataset import Dataset, labels, quantities
from assay.errors import Refused, UnfitInput
from assay.evaluate.step import evaluate
from assay.evidence import Evidence
from assay.gate.rules.at_most import AtMost
from assay.gate.rules.worst_case_error import WorstCaseError
from assay.gate.verdict import Case
from assay.ingest.step import ingest
from assay.models.assemble import assemble, rescale_output
from assay.models.folder import load_model, save_model
from assay.signing import unseal
from assay.train.step import train
from assay.workspace import Workspace

THREAT = "linf:0.05"
FAST = {"pgd": {"steps": 10, "restarts": 1}}


pytestmark = pytest.mark.filterwarnings("ignore:evidence .* is not signed")


@pytest.fixture(autouse=True)
def _home(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def values(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = draw.random((n, 3))
    return x, 40 + 30 * x[:, 0] - 20 * x[:, 1] + draw.normal(0, 0.5, n)


def records(n: int = 400, seed: int = 0, y: np.ndarray | None = None) -> Dataset:
    x, label = values(n, seed)
    keys = {"batch": pa.array(["clinic/a"] * n, pa.string()), "row": pa.array(np.arange(n), pa.int64())}
    columns = {name: pa.array(x[:, at]) for at, name in enumerate("uvw")}
    return Dataset.make(pa.table({**keys, **columns, "label": pa.array(label if y is None else y)}), [], history())


def trained(path: Path, *, name: str = "linear", method: str = "squared_error", epochs: int = 60, **settings) -> Path:
    records().save(path / "data")
    config = {"model": {"name": name, "settings": settings}, "method": {"name": method}, "epochs": epochs, "threads": 1}
    train(path / "data", parse(TrainConfig, config | {"learning_rate": 0.02}, "train"), model=path / "model")
    return path / "model"


def measured(model: Path, path: Path, **config) -> Evidence:
    records(200, seed=1).save(path / "holdout")
    given = {"threats": [THREAT], "attacks": FAST, "regression": {"largest_error": 60.0}} | config
    parsed = parse(EvaluateConfig, given, "evaluate")
    evaluate(
        model, path / "holdout", parsed, evidence=path / "e.json", outcomes=path / "o.parquet", page=path / "p.html"
    )
    return Evidence.from_statement(
        unseal(
            (path / "e.json").read_bytes(),
            Workspace.from_env().keyring,
            kind="evidence",
            role="evaluator",
            allow_unsigned=True,
        ).statement
    )


def case(evidence: Evidence) -> Case:
    policy = parse(PolicyConfig, {"schema": "assay.policy/v1", "rules": [{"rule": "sound"}]}, "policy")
    return Case(evidence=evidence, policy=policy, now=datetime.now(UTC), signed=True)


def csv(path: Path, label: list[object]) -> Path:
    rows = "".join(f"{at / 100},{value}\n" for at, value in enumerate(label))
    path.write_text("u,label\n" + rows)
    return path


def taken(path: Path, file: Path) -> tuple[Dataset, dict]:
    config = parse(IngestConfig, {"task": "regression", "limits": {"refused_share": 0.9}}, "ingest")
    document = ingest(
        [SourceConfig(name="clinic", uri=str(file))],
        config,
        dataset=path / "in" / "dataset",
        calibration=None,
        holdout=None,
        quarantine=path / "in" / "quarantine",
    )
    return Dataset.load(path / "in" / "dataset"), document


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
def test_reads_quantities_as_they_are_written(tmp_path, ending):
    y = [0.1, -3.0, 1e300, 7, 2.5e-8]
    file = tmp_path / f"a.{ending}"
    if ending == "csv":
        csv(file, y)
    elif ending == "parquet":
        pq.write_table(pa.table({"u": [0.0, 0.1, 0.2, 0.3, 0.4], "label": y}), file)
    else:
        np.savez(file, x=np.arange(5.0)[:, None], y=np.array(y))
    found, document = taken(tmp_path, file)
    assert quantities(found).tolist() == y
    assert found.manifest.content.classes == ()
    assert document["classes"] == []
    with pytest.raises(UnfitInput, match="a quantity"):
        labels(found)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_label_that_is_missing_or_no_number_is_kept_raw(tmp_path, ending):
    if ending == "csv":
        file = csv(tmp_path / "a.csv", [1.5, "nan", "inf", "", 2.5, "many"])
        need = {"label_not_finite": 2, "missing_label": 1, "number_format": 1}
    else:
        file = tmp_path / "a.parquet"
        label = pa.array([1.5, float("nan"), float("inf"), None, 2.5, 3.5], pa.float64())
        pq.write_table(pa.table({"u": np.arange(6.0), "label": label}), file)
        need = {"label_not_finite": 2, "missing_label": 1}
    found, document = taken(tmp_path, file)
    assert quantities(found).tolist()[:2] == [1.5, 2.5]
    assert document["reasons"] == need


def test_an_archive_with_a_label_that_is_not_finite_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3.0)[:, None], y=np.array([1.0, np.nan, 2.0]))
    with pytest.raises((UnfitInput, Refused), match="not finite"):
        taken(tmp_path, tmp_path / "a.npz")


def test_classes_and_a_regression_exclude_each_other():
    with pytest.raises(UnfitInput, match="no classes where the task is regression"):
        parse(IngestConfig, {"task": "regression", "classes": ["a", "b"]}, "ingest")


def test_a_folder_keeps_its_digests_and_a_changed_label_is_found(tmp_path):
    made = records()
    made.save(tmp_path / "data")
    again = Dataset.load(tmp_path / "data")
    assert again.manifest == made.manifest
    assert (quantities(again) == values(400)[1]).all()
    part = next((tmp_path / "data" / "data").iterdir())
    table = pq.read_table(part)
    moved = pa.array(table["label"].to_numpy() + 1e-9)
    pq.write_table(table.set_column(table.column_names.index("label"), "label", moved), part)
    with pytest.raises(UnfitInput):
        Dataset.load(tmp_path / "data")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_dataset_holds_a_quantity_that_is_not_finite(bad):
    with pytest.raises(UnfitInput, match="not finite"):
        records(4, y=np.array([1.0, 2.0, bad, 3.0]))


@pytest.mark.slow
def test_least_squares_finds_the_plane(tmp_path):
    """Against the exact solution of the normal equations."""
    model = load_model(trained(tmp_path, epochs=100))
    x, y = values(400)
    exact, *_ = np.linalg.lstsq(np.c_[x, np.ones(400)], y, rcond=None)
    said = model.module(torch.from_numpy(x.astype(np.float32)))[:, 0].numpy()
    assert np.abs(said - np.c_[x, np.ones(400)] @ exact).max() < 0.3
    assert model.spec.regression
    assert model.spec.outputs == 1


@pytest.mark.slow
def test_hubers_loss_withstands_labels_that_least_squares_does_not(tmp_path):
    """5 % of the labels are raised by 1,000: the plane of least squares moves by about 50, Huber's by less than 3."""
    x, y = values(400)
    y[::20] += 1000
    records(y=y).save(tmp_path / "data")
    away = {}
    for method in ("squared_error", "huber_regression"):
        given = {"model": {"name": "linear"}, "method": {"name": method}, "epochs": 150, "learning_rate": 0.02}
        if method == "huber_regression":
            given["method"] = {"name": method, "settings": {"delta": 0.01}}
        model = tmp_path / method
        document = train(tmp_path / "data", parse(TrainConfig, given | {"threads": 1}, "train"), model=model)
        said = load_model(model).module(torch.from_numpy(x.astype(np.float32)))[:, 0].numpy()
        away[method] = np.abs(said - (40 + 30 * x[:, 0] - 20 * x[:, 1])).mean()
        assert document["train_error"]["n"] == 400
    assert away["squared_error"] > 30
    assert away["huber_regression"] < 3


def test_the_scale_of_the_label_goes_into_the_last_layer():
    module = assemble(spec("mlp", (3,), classes=0, hidden=[4]))
    x = torch.rand(5, 3)
    before = module(x).detach()
    rescale_output(module, 100.0, 7.0)
    torch.testing.assert_close(module(x).detach(), 100 + 7 * before)
    module.network = nn.Sequential(nn.Linear(3, 1), nn.ReLU())
    with pytest.raises(UnfitInput, match="ends in ReLU"):
        rescale_output(module, 0.0, 1.0)


def test_evidence_says_how_far_a_plane_is_off_and_the_gate_decides(tmp_path):
    evidence = measured(trained(tmp_path), tmp_path)
    assert evidence.sound, evidence.soundness
    error, worst = evidence.estimates["mae"], evidence.estimates[f"worst_case_error/{THREAT}"]
    module = load_model(tmp_path / "model").module
    x, y = values(200, seed=1)
    said = module(torch.from_numpy(x.astype(np.float32)))[:, 0].numpy()
    assert error.value == pytest.approx(np.abs(said - y).mean(), rel=1e-3)
    assert evidence.estimates["rmse"].value == pytest.approx(np.sqrt(((said - y) ** 2).mean()), rel=1e-2)
    weight = (module.network[1].weight[0] / module.scale).numpy()
    assert 1 <= evidence.measured["regression"]["lipschitz_bound"] / np.linalg.norm(weight) < 1.2
    inner = worst.value - error.value  # where the box is out of reach the plane moves by epsilon * |w|_1
    assert 0.9 * 0.05 * np.abs(weight).sum() <= inner <= 0.05 * np.abs(weight).sum() + 1e-3
    assert worst.high - worst.value == pytest.approx(3.16, rel=0.05), "empirical Bernstein, 200 records"
    assert evidence.measured["regression"]["proof"] == {THREAT: "exact"}
    given = case(evidence)
    assert WorstCaseError(value=worst.high + 3, threat=THREAT)(given).verdict == "holds"
    assert WorstCaseError(value=worst.low - 3, threat=THREAT)(given).verdict == "misses"
    assert WorstCaseError(value=worst.value, threat=THREAT)(given).verdict == "unclear"
    assert WorstCaseError(value=9.0, threat="linf:0.3")(given).verdict == "not_measured"
    assert AtMost(estimate="mae", value=error.high + 3)(given).verdict == "holds"
    outcomes = pq.read_table(tmp_path / "o.parquet")
    assert outcomes.num_rows == 200
    assert (outcomes[f"error_found/{THREAT}"].to_numpy() <= outcomes[f"error_bound/{THREAT}"].to_numpy()).all()
    assert "worst_case_error" in (tmp_path / "p.html").read_text()


@pytest.mark.slow
def test_the_same_measurement_twice_is_one(tmp_path):
    model = trained(tmp_path, name="mlp", hidden=[8])
    first, again = (measured(model, tmp_path / name, threads=threads) for name, threads in (("a", 1), ("b", 2)))
    assert first.estimates == again.estimates
    assert first.soundness == again.soundness


@pytest.mark.slow
def test_more_records_than_a_block_are_measured_in_order(tmp_path):
    model = trained(tmp_path)
    records(300, seed=2).save(tmp_path / "holdout")
    config = parse(EvaluateConfig, {"attacks": FAST, "regression": {"largest_error": 60.0}}, "evaluate")
    evaluate(model, tmp_path / "holdout", config, evidence=tmp_path / "e.json", outcomes=tmp_path / "o.parquet")
    outcomes = pq.read_table(tmp_path / "o.parquet")
    assert outcomes["record_id"].to_pylist() == [f"clinic/a:{at}" for at in range(300)]
    assert (outcomes["label"].to_numpy() == values(300, seed=2)[1]).all()


class Rounds(nn.Module):
    """A plane that hides its slope: what it is told is rounded to whole tenths."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(torch.round(x * 10) / 10)


class Noisy(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x) + torch.rand(len(x), 1)


class Masked(nn.Module):
    """Beyond the very record it falls away, but its gradient says the reverse."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said = self.network(x)
        return said.detach() + 1e-6 * (x - x.detach()).sum(1, keepdim=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hides", "missed"),
    [(Rounds, "zero_gradient_share"), (Noisy, "two_passes_agree"), (Masked, "gradient_free_not_better")],
)
def test_a_model_that_hides_its_slope_is_not_sound(tmp_path, monkeypatch, hides, missed):
    from assay.evaluate import regression_plan

    model = trained(tmp_path, name="mlp", hidden=[16])

    def loaded(path):
        found = load_model(path)
        found.module.network = hides(found.module.network).eval()
        return found

    monkeypatch.setattr(regression_plan, "load_model", loaded)
    evidence = measured(model, tmp_path)
    assert evidence.soundness[missed] == "misses"
    assert not evidence.sound
    assert evidence.measured["regression"]["proof"] == {THREAT: "none"}
    assert evidence.estimates[f"worst_case_error/{THREAT}"].high == pytest.approx(60.0)


def test_a_check_whose_search_does_not_move_in_a_norm_is_not_measured(tmp_path):
    evidence = measured(trained(tmp_path, epochs=5), tmp_path, threats=["l0:1"])
    assert evidence.soundness["gradient_free_not_better"] == "not_measured"
    assert evidence.soundness["certified_stand"] == "holds"


@pytest.mark.slow
def test_errors_beyond_the_largest_take_the_trust_away(tmp_path):
    evidence = measured(trained(tmp_path), tmp_path, regression={"largest_error": 0.5})
    assert evidence.soundness["errors_within_bound"] == "misses"
    assert not evidence.sound
    assert evidence.estimates["mae"].high <= 0.5 * (1 + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"regression": None}, "largest_error"),
        ({"aspects": {"calibration": {}}}, "evaluate.aspects"),
        ({"slices": ["class", "source"]}, "evaluate.slices"),
        ({"triggers": [{"name": "t"}]}, "evaluate.triggers"),
        ({"decide": {"mae": 1.0}}, "evaluate.decide"),
        ({"attacks": "standard"}, "an attack on a class"),
        ({"attacks": {"square": {}}}, "an attack on a class"),
        ({"black_box": {}}, "evaluate.black_box"),
        ({"budget": 10}, "evaluate.budget"),
        ({"precision": "bfloat16"}, "evaluate.precision"),
        ({"threats": ["linf:0.1", "linf:1/10"]}, "each threat once"),
        ({"threats": ["linf:5"]}, "at most the width of the box"),
    ],
)
def test_refuses_by_name_what_is_about_classes(tmp_path, config, match):
    model = trained(tmp_path, epochs=1)
    with pytest.raises(UnfitInput, match=match):
        measured(model, tmp_path, **config)
    assert not (tmp_path / "e.json").exists()


def test_a_model_of_classes_takes_no_settings_of_a_regression(tmp_path):
    from model_cases import folder, images

    images(np.zeros((4, 8, 8), np.uint8), np.arange(4) % 2).save(tmp_path / "holdout")
    config = parse(EvaluateConfig, {"regression": {"largest_error": 1.0}}, "evaluate")
    with pytest.raises(UnfitInput, match=r"evaluate\.regression"):
        evaluate(folder(tmp_path / "m"), tmp_path / "holdout", config, evidence=tmp_path / "e", outcomes=tmp_path / "o")


@pytest.mark.parametrize(
    "words",
    [
        ["sanitize", "data", "--out", "kept", "--quarantine", "left"],
        ["filter", "data", "--out", "kept", "--quarantine", "left"],
        ["train", "data", "--out", "model2"],
        ["train", "data", "--out", "model2", "--method", "huber"],
    ],
)
def test_verbs_about_classes_refuse_quantities_and_write_nothing(tmp_path, words, capsys):
    records().save(tmp_path / "data")
    assert run(words) == 2
    assert "quantit" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir() if not each.name.startswith(".")) == ["data"]


def test_a_method_for_quantities_refuses_classes(tmp_path):
    from model_cases import table

    table().save(tmp_path / "data")
    with pytest.raises(UnfitInput, match="squared_error, and labels that are classes"):
        train(
            tmp_path / "data", parse(TrainConfig, {"method": {"name": "squared_error"}}, "train"), model=tmp_path / "m"
        )


@pytest.mark.slow
def test_models_of_classes_and_of_quantities_do_not_take_each_others_records(tmp_path):
    from model_cases import table

    model = trained(tmp_path, epochs=1)
    table(30).save(tmp_path / "classes")
    config = parse(EvaluateConfig, {"regression": {"largest_error": 1.0}, "attacks": FAST}, "evaluate")
    places = {"evidence": tmp_path / "e", "outcomes": tmp_path / "o"}
    with pytest.raises(UnfitInput, match="model: classes: got none, a model of quantities"):
        evaluate(model, tmp_path / "classes", config, **places)
    of = spec("linear", (3,), classes=2)
    save_model(tmp_path / "other", assemble(of), of, np.full((1, 3), 0.5, np.float32))
    with pytest.raises(UnfitInput, match="those of the records: none, a model of quantities"):
        evaluate(tmp_path / "other", tmp_path / "data", parse(EvaluateConfig, {}, "evaluate"), **places)


def test_the_commands_agree(tmp_path, capsys):
    x, y = values(500)
    for name, rows in (("train", slice(0, 300)), ("trusted", slice(300, 500))):
        lines = [
            ",".join(map(repr, [*row.tolist(), label])) for row, label in zip(x[rows], y[rows].tolist(), strict=True)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(["u,v,w,price", *lines]) + "\n")

    def said(*words: str) -> dict:
        code = run([*words, "--json"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out)

    said("ingest", "shop=train.csv", "desk=trusted.csv", "--trusted", "desk", "--out", "in", "--label", "price",
         "--regression")  # fmt: skip
    fitted = said("train", "in/dataset", "--out", "model", "--model", "linear", "--method", "squared_error")
    assert fitted["train_error"]["n"] == 300
    words = ["--data", "in/holdout", "--threat", THREAT, "--attack", "pgd:steps=10,restarts=1"]
    found = said("evaluate", "model", *words, "--largest-error", "60", "--out", "e.dsse.json")
    assert found["sound"]
    assert {"mae", "rmse", f"worst_case_error/{THREAT}"} <= set(found["estimates"])
    assert run(["evaluate", "model", *words, "--out", "f.dsse.json"]) == 2
    assert "--largest-error" in capsys.readouterr().err
