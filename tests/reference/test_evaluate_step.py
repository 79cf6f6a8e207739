"""The step on files: digests, signatures, the ledger, and what the evidence says of how it was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from evaluate_cases import dataset
from table_cases import CONFIG, EPSILON, TARGET, WEIGHT, Case, left

from assay import canonical, lineage
from assay.attempts import attempts
from assay.cli import main
from assay.config.base import parse
from assay.config.evaluate import EvaluateConfig
from assay.config.gate import PolicyConfig
from assay.data.dataset import Dataset
from assay.data.manifest import History
from assay.errors import UnfitInput
from assay.estimate import proportion
from assay.evaluate.deliver import deliver
from assay.evaluate.ladder import ladder
from assay.evidence import Evidence
from assay.examples.tiny import Tiny
from assay.gate import verdict as gate
from assay.gate.rules.at_least import AtLeast
from assay.gate.rules.filter_power import FilterPower
from assay.gate.rules.worst_slice import WorstSlice
from assay.signing import peek, seal
from assay.workspace import Workspace


@pytest.fixture
def case(workspace: Workspace, tmp_path: Path) -> Case:
    return Case(workspace, tmp_path)


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
