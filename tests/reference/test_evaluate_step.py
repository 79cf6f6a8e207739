"""The step on files: digests, signatures, the ledger, the champion, and every input that does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from evaluate_cases import dataset, linear_model

from assay import canonical, lineage
from assay.attempts import attempts
from assay.canonical import tree_digest, tree_files
from assay.cli import main
from assay.config.base import parse
from assay.config.black_box import BlackBoxConfig
from assay.config.evaluate import EvaluateConfig
from assay.config.gate import PolicyConfig
from assay.config.root import Target
from assay.data.dataset import Dataset
from assay.data.manifest import History
from assay.errors import Refused, UnfitInput, UnknownName
from assay.estimate import paired_difference, proportion
from assay.evaluate.deliver import deliver
from assay.evaluate.fast import supports_bfloat16
from assay.evaluate.ladder import ladder
from assay.evaluate.step import evaluate
from assay.evidence import Evidence
from assay.examples.tiny import Tiny
from assay.gate import verdict as gate
from assay.gate.rules.at_least import AtLeast
from assay.gate.rules.filter_power import FilterPower
from assay.gate.rules.worst_slice import WorstSlice
from assay.ledger import put_folder
from assay.signing import peek, seal, statement, unseal
from assay.workspace import Workspace

EPSILON = 0.05
TARGET = Target(model="table", alias="champion")
CONFIG = EvaluateConfig(
    threats=(f"linf:{EPSILON}",), attacks={"fgsm": {}, "pgd": {"steps": 10, "restarts": 1}}, threads=2
)
WEIGHT = np.random.default_rng(7).standard_normal(8)
OTHER = WEIGHT + 0.8 * np.random.default_rng(8).standard_normal(8)


def records(count: int = 300) -> tuple[Any, Any]:
    """A table in which a noisy version of the plane says the class."""
    draw = np.random.default_rng(1)
    x = draw.uniform(0.1, 0.9, (count, 8)).astype(np.float32)
    y = (centred(x, WEIGHT) + 0.2 * draw.standard_normal(count) > 0).astype(np.int64)
    return x, y


def centred(x: Any, weight: Any) -> Any:
    return (x.astype(float) - 0.5) @ weight


def left(x: Any, y: Any, weight: Any) -> tuple[Any, Any]:
    """Exact, for the box is out of reach: margin of the true class, and what is left of it in the worst case."""
    margin = np.where(y == 1, 1, -1) * centred(x, weight)
    return margin > 0, margin - EPSILON * np.abs(weight).sum() > 0


class Case:
    """A workspace with keys, a hold-out, and a linear model."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace, self.folder = workspace, folder
        workspace.initialise()
        self.x, self.y = records()
        self.holdout, self.model = folder / "holdout", folder / "model"
        dataset(self.x, self.y).save(self.holdout)
        self.digest = self.save(self.model, WEIGHT)

    def save(self, path: Path, weight: Any, **changes: Any) -> str:
        bias = 0.5 * weight.sum()
        return linear_model(path, np.stack([0 * weight, weight]), np.array([0, -bias]), self.x[:8], **changes)

    def evaluate(self, name: str = "e", config: EvaluateConfig = CONFIG, **more: Any) -> dict[str, Any]:
        places = {"evidence": self.folder / f"{name}.dsse.json", "outcomes": self.folder / f"{name}.parquet"}
        return evaluate(more.pop("model", self.model), self.holdout, config, **places, **more)

    def read(self, name: str = "e") -> Evidence:
        data = (self.folder / f"{name}.dsse.json").read_bytes()
        opened = unseal(data, self.workspace.keyring, kind="evidence", role="evaluator")
        return Evidence.from_statement(opened.statement)

    def promoted(self, model: Path, sequence: int = 1, **changes: Any) -> str:
        """Bind a promotion of a model, signed by the promoter unless another role is given."""
        digest = tree_digest(tree_files(model))
        put_folder(self.workspace.ledger, f"models/{digest}", model)
        rests = {"evidence": "e" * 64, "decision": "d" * 64}
        body = {"target": TARGET.to_json(), "sequence": sequence, "previous": "", **rests, **changes.pop("body", {})}
        body["run"] = {"promoted_at": "2026-01-01T00:00:00+00:00"}
        document = statement("promotion", {"model": digest, **rests}, body)
        data = seal(document, self.workspace.signers(changes.pop("role", "promoter")))
        self.workspace.ledger.put(f"promotions/table@champion/{sequence:08d}.dsse.json", data)
        return digest


@pytest.fixture
def case(workspace: Workspace, tmp_path: Path) -> Case:
    return Case(workspace, tmp_path)


def test_settings_of_a_black_box_are_refused_for_a_model_folder(case: Case) -> None:
    with pytest.raises(UnfitInput, match=r"black_box.*none for a model folder"):
        case.evaluate(config=CONFIG.model_copy(update={"black_box": BlackBoxConfig()}))
    assert not (case.folder / "e.dsse.json").exists()


@pytest.mark.slow
def test_a_trigger_that_nobody_named_is_sought_where_it_is_asked_for(case: Case) -> None:
    case.evaluate("without")
    config = CONFIG.model_copy(update={"aspects": {"trigger_inversion": {"steps": 60, "area": 0.13}}})
    case.evaluate("with", config=config)
    without, made = case.read("without"), case.read("with")
    assert "inverted_trigger_success" not in without.estimates
    said = made.measured["aspects"]["trigger_inversion"]
    assert (said["steps"], said["area"]) == (60, 0.13)
    estimate = made.estimates["inverted_trigger_success"]
    assert estimate.method == "clopper-pearson"
    assert 60 <= estimate.n <= 90  # half of the records, without those of one of two classes
    others = {name: value for name, value in made.estimates.items() if name != "inverted_trigger_success"}
    assert others == without.estimates


def test_the_power_of_the_filter_that_made_the_training_records_is_in_the_evidence_and_a_gate_reads_it(
    case: Case,
) -> None:
    """Before it was, the rule says not measured; as the estimates of the manifest the model names say, it decides."""
    found = {name: proportion(28, 30) for name in ("filter_power", "filter_power/patch")}
    given = dataset(case.x, case.y, "train", role="dataset")
    for parameters in ({}, {"power": {name: estimate.to_json() for name, estimate in found.items()}}):
        history = History("filter_poison", "kept", given.manifest.history.sources, parameters=parameters)
        kept = Dataset.make(given.table, given.manifest.content.classes, history)
        lineage.put_dataset(case.workspace.ledger, kept)
        case.save(case.folder / f"trained{len(parameters)}", WEIGHT, trained_on=kept.manifest.digest)
        case.evaluate(f"e{len(parameters)}", model=case.folder / f"trained{len(parameters)}")
    without, made = case.read("e0"), case.read("e1")
    assert not any(name.startswith("filter_power") for name in without.estimates)
    assert {name: made.estimates[name] for name in found} == found
    for rule, verdict in ((FilterPower(value=0.7), "holds"), (FilterPower(value=0.9, poison="patch"), "unclear")):
        policy = PolicyConfig(rules=({"rule": "filter_power", "value": rule.value},))
        asked = [
            gate.Case(evidence=each, policy=policy, now=datetime.now(UTC), signed=True) for each in (made, without)
        ]
        assert [rule(each).verdict for each in asked] == [verdict, "not_measured"]


def test_the_evidence_is_signed_about_these_files_and_says_the_exact_counts(case: Case) -> None:
    document = case.evaluate(page=case.folder / "page.html", run="r1")
    made = case.read()
    clean, robust = left(case.x, case.y, WEIGHT)
    assert made.subjects == {"model": case.digest, "holdout": dataset(case.x, case.y).manifest.digest}
    assert made.estimates["clean_accuracy"] == proportion(int(clean.sum()), 300)
    assert made.estimates["robust_accuracy/linf:0.05"] == proportion(int(robust.sum()), 300)
    assert document["evidence_id"] == made.id
    assert document["evidence"] == str(case.folder / "e.dsse.json")
    assert document["estimates"] == {name: each.to_json() for name, each in made.estimates.items()}
    assert document["sound"] is made.sound is True
    assert set(document["soundness"].values()) == {"holds", "not_measured"}
    assert case.workspace.ledger.get(f"evidence/{made.id}.dsse.json") == (case.folder / "e.dsse.json").read_bytes()
    assert made.run["run_id"] == "r1"
    assert made.measured_at is not None


def test_a_measurement_for_a_target_is_an_attempt_before_anybody_can_read_it(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stops it before the evidence is written has paid; done again it is the same attempt."""
    with monkeypatch.context() as patch:
        patch.setattr("assay.evaluate.deliver.write_file", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            case.evaluate(target=TARGET)
    holdout = dataset(case.x, case.y).manifest.content_digest
    charged = attempts(case.workspace.ledger, holdout, TARGET)
    document = case.evaluate(target=TARGET)
    assert [document["evidence_id"]] == charged == attempts(case.workspace.ledger, holdout, TARGET)
    case.evaluate("without")
    assert len(attempts(case.workspace.ledger, holdout, TARGET)) == 1


def test_the_evidence_says_how_it_was_measured(case: Case) -> None:
    case.evaluate()
    how = case.read().measured
    assert how["threats"]["linf:0.05"]["epsilon"] == 0.05
    settings = {
        "steps": 10,
        "restarts": 1,
        "reach": None,
        "loss": "ce",
        "start": "uniform",
        "momentum": 0.0,
        "samples": 1,
        "drop": True,
    }
    assert how["attacks"]["pgd"] == settings
    assert how["gradient_evaluations"] == 11
    assert (how["seed"], how["threads"], how["device"], how["records"], how["confidence"]) == (0, 1, "cpu", 300, 0.95)
    assert how["versions"]["torch"] == torch.__version__
    assert how["versions"]["threads"] == "1"
    assert how["trained_against"]["method"] == "cross_entropy"
    assert how["beside_training"] is None


SHORT = {"fgsm": {}, "apgd": {"steps": 5}, "square": {"queries": 30}}


def test_it_stops_once_the_bar_is_settled_and_says_how_many_records_that_took(case: Case) -> None:
    name = "robust_accuracy/linf:0.05"
    _, robust = left(case.x, case.y, WEIGHT)
    config = CONFIG.model_copy(update={"decide": {name: 0.02}})
    document = case.evaluate(config=config, page=case.folder / "page.html")
    made = case.read()
    estimate = made.estimates[name]
    assert document["records"] == {"measured": estimate.n, "of": 300}
    assert estimate.n < 300
    assert estimate.n % 64 == 0
    assert estimate.low >= 0.02
    assert estimate.low <= proportion(int(robust.sum()), 300).low <= proportion(int(robust.sum()), 300).high
    assert made.measured["sequential"] == {"decide": {name: 0.02}, "risk": 1e-3, "population": 300}
    assert estimate.method == "curtailed-clopper-pearson"
    table = pq.read_table(case.folder / "e.parquet")
    rows = [int(record.rpartition(":")[2]) for record in table["record_id"].to_pylist()]
    assert rows != sorted(rows), "a random order"
    assert np.array_equal(table["robust/linf:0.05"], robust[rows]), "each outcome stands beside its own record"
    assert np.array_equal(table["label"], case.y[rows])
    assert "enough for the verdict" in (case.folder / "page.html").read_text()


@pytest.mark.slow
def test_with_a_champion_to_compare_every_record_is_measured(case: Case) -> None:
    other = case.folder / "other"
    case.save(other, OTHER)
    case.promoted(other)
    config = CONFIG.model_copy(update={"decide": {"clean_accuracy": 0.02}})
    document = case.evaluate(config=config, target=TARGET)
    assert document["records"] == {"measured": 300, "of": 300}
    assert document["estimates"]["clean_accuracy_minus_champion"]["n"] == 300


def test_a_bar_for_an_estimate_that_is_not_made_is_refused(case: Case) -> None:
    with pytest.raises(UnknownName, match="robust_accuracy"):
        case.evaluate(config=CONFIG.model_copy(update={"decide": {"robust_accuracy/linf:0.5": 0.02}}))
    assert not (case.folder / "e.dsse.json").exists()


def test_when_time_runs_out_the_evidence_says_so_and_what_did_not_run_is_not_measured(case: Case) -> None:
    document = case.evaluate(config=CONFIG.model_copy(update={"limit_s": 1e-9}))
    made = case.read()
    assert made.truncated is document["truncated"] is True
    later = ("scale_invariance", "gradient_free_not_better", "transfer_not_better", "chance_at_whole_box")
    assert {made.soundness[name] for name in later} == {"not_measured"}
    verdict = gate_verdict(made)
    assert verdict == "not_measured"
    assert case.evaluate("whole", config=CONFIG.model_copy(update={"limit_s": 1e6}))["truncated"] is False


def test_a_budget_of_gradient_evaluations_cuts_the_same_everywhere_and_says_so(case: Case) -> None:
    """All attacks of the ladder together cost less than 1,000 evaluations a record here, the first of them 1."""
    document = case.evaluate(config=CONFIG.model_copy(update={"budget": 1.0}))
    made = case.read()
    assert made.truncated is document["truncated"] is True
    assert made.measured["budget"] == 1.0
    assert made.soundness["transfer_not_better"] == "not_measured"
    assert gate_verdict(made) == "not_measured"
    again = case.evaluate("again", config=CONFIG.model_copy(update={"budget": 1.0}))
    assert again["evidence_id"] == document["evidence_id"]
    assert case.evaluate("whole", config=CONFIG.model_copy(update={"budget": 1000.0}))["truncated"] is False


def gate_verdict(evidence: Evidence) -> str:
    """What a gate that asks for next to nothing says of evidence."""
    rule = {"estimate": "robust_accuracy", "threat": "linf:0.05", "value": 0.0}
    policy = PolicyConfig(rules=({"rule": "at_least"} | rule,))
    asked = gate.Case(evidence=evidence, policy=policy, now=datetime.now().astimezone(), signed=True)
    return AtLeast(**rule)(asked).verdict  # type: ignore[arg-type]


def test_attacks_that_need_no_gradient_come_last_and_count_in_the_checks(case: Case) -> None:
    document = case.evaluate(config=CONFIG.model_copy(update={"attacks": SHORT}))
    made = case.read()
    assert document["sound"]
    assert [rung.name for rung in ladder(SHORT)] == ["fgsm", "apgd", "square"]
    assert set(made.measured["attacks"]) == {*SHORT, "targeted", "rescaled", "transfer", "search"}
    assert made.measured["gradient_evaluations"] == 1 + 5 + 30 / 3


def test_a_preset_stands_for_its_attacks(case: Case) -> None:
    config = EvaluateConfig(attacks="standard")  # type: ignore[arg-type]
    assert set(config.attacks) == {"fgsm", "apgd", "pgd", "apgd_targeted", "fab", "square"}
    assert config == EvaluateConfig(attacks=config.attacks)
    with pytest.raises(UnfitInput, match="standard"):
        parse(EvaluateConfig, {"attacks": "strong"}, "evaluate")


@pytest.mark.skipif(supports_bfloat16(), reason="this CPU multiplies in bfloat16")
def test_bfloat16_is_refused_where_the_cpu_has_none(case: Case) -> None:
    with pytest.raises(UnfitInput, match="bfloat16"):
        case.evaluate(config=CONFIG.model_copy(update={"precision": "bfloat16", "device": "cpu"}))


def test_outcomes_say_of_every_record_what_the_evidence_counts(case: Case) -> None:
    case.evaluate()
    table = pq.read_table(case.folder / "e.parquet")
    clean, robust = left(case.x, case.y, WEIGHT)
    assert table["record_id"].to_pylist() == dataset(case.x, case.y).record_ids
    assert np.array_equal(table["label"], case.y)
    assert np.array_equal(table["clean_correct"], clean)
    assert np.array_equal(table["robust/linf:0.05"], robust)
    broken = table["broken_by/linf:0.05"].to_pylist()
    assert {name for name, stands in zip(broken, robust, strict=True) if stands} == {""}
    assert {name for name, right in zip(broken, clean, strict=True) if not right} == {"no attack"}


def test_the_page_is_whole_and_fetches_nothing(case: Case) -> None:
    case.evaluate(page=case.folder / "page.html")
    text = (case.folder / "page.html").read_text()
    assert case.read().id[:12] in text
    assert text.count("<svg") == 2
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "<script" not in text


def test_the_same_measurement_twice_is_one_whatever_the_number_of_workers(case: Case) -> None:
    first = case.evaluate("one", run="r1")
    second = case.evaluate("two", CONFIG.model_copy(update={"threads": 1}), run="r2")
    assert first["evidence_id"] == second["evidence_id"]
    assert (case.folder / "one.dsse.json").read_bytes() == (case.folder / "two.dsse.json").read_bytes()
    assert (case.folder / "one.parquet").read_bytes() == (case.folder / "two.parquet").read_bytes()
    assert case.evaluate("three", CONFIG.model_copy(update={"seed": 1}))["evidence_id"] != first["evidence_id"]


@pytest.mark.slow
def test_two_processes_give_the_same_evidence(case: Case) -> None:
    arguments = [
        str(case.model),
        "--data",
        str(case.holdout),
        "--threat",
        "linf:1/20",
        "--attack",
        "pgd:steps=10,restarts=2",
    ]
    command = [sys.executable, "-m", "assay.cli", "evaluate", *arguments, "--json", "--out"]
    answers = [
        json.loads(subprocess.run([*command, str(case.folder / name)], capture_output=True, timeout=300).stdout)
        for name in "ab"
    ]
    assert answers[0]["evidence_id"] == answers[1]["evidence_id"]
    assert answers[0]["estimates"] == answers[1]["estimates"]


def test_a_later_measurement_of_the_same_is_handed_on_with_its_own_time(case: Case) -> None:
    case.evaluate()
    first = case.read()
    for hours, expected in ((0.5, first.run["ended"]), (30, None)):
        later = (datetime.fromisoformat(first.run["ended"]) + timedelta(hours=hours)).isoformat()
        made = replace(first, run=first.run | {"ended": later})
        assert deliver(made, case.folder / "e.dsse.json", case.workspace) == first.id
        assert case.read().run["ended"] == (expected or later)
    bound = peek(case.workspace.ledger.get(f"evidence/{first.id}.dsse.json"))
    assert bound["predicate"]["run"]["ended"] == first.run["ended"]


@pytest.mark.parametrize("name", ["signed by nobody", "signed by the promoter", "about something else"])
def test_an_envelope_in_the_ledger_that_does_not_count_is_not_handed_on(case: Case, name: str) -> None:
    case.evaluate()
    first = case.read()
    made = replace(first, truncated=True)
    role = {"signed by the promoter": "promoter"}.get(name, "evaluator")
    signers = [] if name == "signed by nobody" else case.workspace.signers(role)
    there = seal((first if name == "about something else" else made).to_statement(), signers)
    case.workspace.ledger.put(f"evidence/{made.id}.dsse.json", there)
    deliver(made, case.folder / "f.dsse.json", case.workspace)
    assert case.read("f") == made


def test_without_a_key_evidence_is_unsigned_and_stays_out_of_the_ledger(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_EVALUATOR_KEY", str(case.folder / "none.pem"))
    with pytest.warns(UserWarning, match="not signed"):
        document = case.evaluate()
    assert canonical.read(document["evidence"])["signatures"] == []
    assert case.workspace.ledger.names("evidence/") == []


def test_the_champion_is_measured_on_the_same_records(case: Case) -> None:
    champion = case.folder / "champion"
    case.save(champion, OTHER)
    digest = case.promoted(champion)
    case.evaluate(target=TARGET)
    made = case.read()
    ours, theirs = left(case.x, case.y, WEIGHT), left(case.x, case.y, OTHER)
    assert made.subjects["champion"] == digest
    for name, first, second in (
        ("clean_accuracy_minus_champion", ours[0], theirs[0]),
        ("robust_accuracy_minus_champion/linf:0.05", ours[1], theirs[1]),
    ):
        assert made.estimates[name] == paired_difference(
            int((first & ~second).sum()), int((~first & second).sum()), 300
        )
    table = pq.read_table(case.folder / "e.parquet")
    assert np.array_equal(table["champion_clean_correct"], theirs[0])
    assert np.array_equal(table["champion_robust/linf:0.05"], theirs[1])


def test_without_a_champion_nothing_is_said_about_one(case: Case) -> None:
    for target in (None, TARGET):
        document = case.evaluate(target=target)
        assert not any("champion" in name for name in document["estimates"])
        assert "champion" not in case.read().subjects


def test_a_model_is_not_its_own_champion(case: Case) -> None:
    before = case.evaluate("before", target=TARGET)
    case.promoted(case.model)
    assert case.evaluate("after", target=TARGET)["evidence_id"] == before["evidence_id"]


@pytest.mark.parametrize(
    "changes",
    [{"role": "evaluator"}, {"body": {"target": {"model": "other", "alias": "champion"}}}, {"body": {"sequence": 2}}],
    ids=str,
)
def test_a_promotion_that_does_not_verify_is_refused(case: Case, changes: dict[str, Any]) -> None:
    case.save(case.folder / "champion", OTHER)
    case.promoted(case.folder / "champion", **changes)
    with pytest.raises(Refused):
        case.evaluate(target=TARGET)
    assert not (case.folder / "e.dsse.json").exists()


def test_champion_files_that_are_not_the_promoted_ones_are_refused(case: Case) -> None:
    case.save(case.folder / "champion", OTHER)
    digest = case.promoted(case.folder / "champion")
    weights = case.workspace.home / "ledger" / "models" / digest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(Refused, match="champion"):
        case.evaluate(target=TARGET)
    weights.parent.rename(weights.parent.with_name("gone"))
    with pytest.raises(Refused, match="no files"):
        case.evaluate(target=TARGET)


def test_a_champion_of_other_classes_cannot_be_compared(case: Case) -> None:
    weight = np.stack([0 * OTHER, OTHER, -OTHER])
    linear_model(case.folder / "champion", weight, np.zeros(3), case.x[:8])
    case.promoted(case.folder / "champion")
    with pytest.raises(UnfitInput, match="champion"):
        case.evaluate(target=TARGET)


def test_records_the_model_learned_from_make_the_measurement_unsound(case: Case) -> None:
    training = dataset(case.x, case.y, role="kept")
    lineage.put_dataset(case.workspace.ledger, training)
    case.save(case.folder / "model2", WEIGHT, trained_on=training.manifest.digest)
    document = case.evaluate(model=case.folder / "model2")
    assert document["soundness"]["holdout_unseen"] == "misses"
    assert document["sound"] is False
    others = dataset(case.x, case.y, name="other", role="kept")
    lineage.put_dataset(case.workspace.ledger, others)
    case.save(case.folder / "model3", WEIGHT, trained_on=others.manifest.digest)
    assert case.evaluate("f", model=case.folder / "model3")["soundness"]["holdout_unseen"] == "holds"


def test_a_limit_draws_records_by_the_seed(case: Case) -> None:
    config = CONFIG.model_copy(update={"limit": 100})
    document = case.evaluate("one", config)
    assert document["estimates"]["clean_accuracy"]["n"] == 100
    assert case.evaluate("two", config)["evidence_id"] == document["evidence_id"]
    ids = pq.read_table(case.folder / "one.parquet")["record_id"].to_pylist()
    assert len(set(ids)) == 100
    assert ids != dataset(case.x, case.y).record_ids[:100]


def flip_a_byte(case: Case) -> None:
    path = case.model / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def change_a_record(case: Case) -> None:
    part = next((case.holdout / "data").iterdir())
    table = pq.read_table(part)
    pq.write_table(table.set_column(2, "f0", table["f1"]), part)


def replace_holdout(case: Case, made: Any) -> None:
    for path in sorted(case.holdout.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    case.holdout.rmdir()
    made.save(case.holdout)


def with_nan(x: Any) -> Any:
    return np.where(x > 0.89, np.float32("nan"), x)


BREAKS: dict[str, Callable[[Case], None]] = {
    "a flipped byte in the model": flip_a_byte,
    "a changed record": change_a_record,
    "no records": lambda case: replace_holdout(case, dataset(case.x[:0], case.y[:0])),
    "other classes": lambda case: replace_holdout(case, dataset(case.x, case.y, classes=3)),
    "other columns": lambda case: replace_holdout(case, dataset(case.x[:, :7], case.y)),
    "values outside the box": lambda case: replace_holdout(case, dataset(2 * case.x, case.y)),
    "a value that is no number": lambda case: replace_holdout(case, dataset(with_nan(case.x), case.y)),
}


@pytest.mark.parametrize("name", list(BREAKS))
def test_input_that_does_not_fit_is_refused_and_nothing_is_written(case: Case, name: str) -> None:
    BREAKS[name](case)
    before = sorted(case.folder.iterdir())
    with pytest.raises(UnfitInput):
        case.evaluate(page=case.folder / "page.html")
    assert sorted(path for path in case.folder.iterdir() if path.name != ".assay") == [
        path for path in before if path.name != ".assay"
    ]
    assert case.workspace.ledger.names("evidence/") == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threats": ("linf:0",)}, "above 0"),
        ({"threats": ("linf:1.01",)}, "width of the box"),
        ({"threats": ("l2:2.83",)}, "at most the box"),
        ({"threats": ("linf:0.05", "linf:1/20")}, "each threat once"),
        ({"threats": ("linf",)}, "norm:epsilon"),
        ({"threats": ("l7:0.1",)}, "l1"),
        ({"attacks": {"pdg": {}}}, "pgd"),
        ({"attacks": {"carlini_wagner": {}}}, "carlini_wagner: got threat linf:0.05, need l2"),
        ({"threats": ("l0:2",)}, "need linf or l2 or l1"),
        ({"attacks": {"pgd": {"step": 3}}}, "steps"),
        ({"triggers": ({"name": "p", "kind": "patch", "row": 0, "column": 0, "target": 1},)}, "need images"),
    ],
    ids=str,
)
def test_a_measurement_that_makes_no_sense_is_refused(case: Case, change: dict[str, Any], says: str) -> None:
    with pytest.raises(UnfitInput, match=says):
        case.evaluate(config=CONFIG.model_copy(update=change))
    assert not (case.folder / "e.dsse.json").exists()


def test_the_verb_answers_on_standard_output_and_leaves_with_its_code(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["evaluate", str(case.model), "--data", str(case.holdout), "--out", str(case.folder / "v.dsse.json")]
    given = ["--threat", "linf:0.05", "--attack", "fgsm", "--page", str(case.folder / "v.html")]
    assert main.run([*places, *given]) == 0
    said = capsys.readouterr().out
    assert "robust_accuracy/linf:0.05" in said
    assert case.read("v").id[:12] in said
    assert (case.folder / "v.outcomes.parquet").exists()
    assert (case.folder / "v.html").exists()
    assert main.run([*places, "--threat", "linf:0", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["where"] == "threat.epsilon"


def test_the_verb_takes_its_measurement_from_the_configuration(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = Tiny().write(case.folder / "example")
    places = ["evaluate", str(case.model), "--data", str(case.holdout), "--out", str(case.folder / "v.dsse.json")]
    assert main.run([*places, "--config", str(path), "--target", "table@champion", "--json"]) == 0
    assert "robust_accuracy/linf:0.05" in json.loads(capsys.readouterr().out)["estimates"]
    how = case.read("v").measured
    assert (how["attacks"]["pgd"]["steps"], how["target"]) == (10, TARGET.to_json())


def test_an_unknown_setting_names_the_nearest_one(case: Case) -> None:
    with pytest.raises(UnknownName, match="steps"):
        case.evaluate(config=CONFIG.model_copy(update={"attacks": {"pgd": {"stepz": 3}}}))


@pytest.mark.parametrize("decide", [{}, {"clean_accuracy": 0.05}], ids=["all", "stopped"])
def test_slices_divide_the_whole_exactly(case: Case, decide: dict[str, float]) -> None:
    config = CONFIG.model_copy(update={"slices": ("class", "source"), "decide": decide})
    case.evaluate(config=config)
    found, key = case.read().estimates, f"/linf:{EPSILON}"
    clean, robust = left(case.x, case.y, WEIGHT)
    for name, end, exact in (("clean_accuracy", "", clean), ("robust_accuracy", key, robust)):
        parts = [found[f"{name}[class={label}]{end}"] for label in (0, 1)]
        assert sum(part.n for part in parts) == found[name + end].n
        assert sum(part.counts["successes"] for part in parts) == found[name + end].counts["successes"]
        if not decide:
            assert [part.counts["successes"] for part in parts] == [int(exact[case.y == y].sum()) for y in (0, 1)]
            (source,) = (each for full, each in found.items() if full.startswith(f"{name}[source="))
            assert source == found[name + end]


def test_a_worst_slice_is_what_the_gate_reads(case: Case) -> None:
    case.evaluate(config=CONFIG.model_copy(update={"slices": ("class",)}))
    policy = parse(PolicyConfig, {"rules": [{"rule": "sound"}, {"rule": "at_least", "estimate": "m", "value": 0}]}, "p")
    asked = gate.Case(evidence=case.read(), policy=policy, now=datetime.now().astimezone(), signed=True)
    rules = {bar: WorstSlice(estimate="clean_accuracy", by="class", value=bar) for bar in (0.05, 0.999)}
    assert [rule(asked).verdict for rule in rules.values()] == ["holds", "misses"]
