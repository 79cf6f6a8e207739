"""Models that can only be asked: a real server in a process of its own, queries counted, evidence with its own name."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from evaluate_cases import dataset
from open_inference_server import serving

from assay.blackbox.open_inference import OpenInference
from assay.blackbox.predict import Asked
from assay.cli import main
from assay.config.base import parse
from assay.config.black_box import BlackBoxConfig
from assay.config.evaluate import EvaluateConfig
from assay.config.gate import PolicyConfig
from assay.errors import AssayError, Refused, UnfitInput, Unreachable
from assay.evaluate.black_box import evaluate_black_box
from assay.evaluate.black_box_blocks import verdicts
from assay.evaluate.black_box_plan import make_black_box_plan
from assay.evaluate.outcomes import BlockOutcome, Outcomes
from assay.evidence import Evidence
from assay.gate.rules.sound import Sound
from assay.gate.verdict import Case
from assay.signing import unseal
from assay.workspace import Workspace

WEIGHT = np.random.default_rng(7).standard_normal(8).round(3)
BIAS = float(0.5 * WEIGHT.sum())
EPSILON = 0.05
BOX = {"queries": 300, "attacks": {"square": {"queries": 200}}}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(WEIGHT.tolist(), BIAS) as address:
        yield address


def asked_of(server: str) -> int:
    with urllib.request.urlopen(f"{server}/asked", timeout=10) as answer:
        return int(json.load(answer)["rows"])


def records(count: int = 80) -> tuple[Any, Any]:
    draw = np.random.default_rng(1)
    x = draw.uniform(0.1, 0.9, (count, 8)).astype(np.float32)
    return x, (x @ WEIGHT - BIAS + 0.2 * draw.standard_normal(count) > 0).astype(np.int64)


@pytest.fixture
def folder(workspace: Workspace, tmp_path: Path) -> Path:
    workspace.initialise()
    dataset(*records()).save(tmp_path / "holdout")
    return tmp_path


def config(**box: Any) -> EvaluateConfig:
    return parse(EvaluateConfig, {"threats": [f"linf:{EPSILON}"], "black_box": BOX | box}, "evaluate")


def run(folder: Path, source: str, given: EvaluateConfig | None = None, name: str = "e") -> dict[str, Any]:
    places = {"evidence": folder / f"{name}.dsse.json", "outcomes": folder / f"{name}.parquet"}
    return evaluate_black_box(source, folder / "holdout", given or config(), **places)


def test_an_endpoint_is_measured_to_its_exact_worst_case_within_its_budget(folder, server, workspace):
    """Reference: the closed form of a plane in a ball that the box does not cut; queries as the server counted them."""
    before = asked_of(server)
    document = run(folder, f"{server}/plain")
    opened = unseal((folder / "e.dsse.json").read_bytes(), workspace.keyring, kind="evidence", role="evaluator")
    evidence = Evidence.from_statement(opened.statement)
    x, y = records()
    margin = np.where(y == 1, 1, -1) * (x.astype(float) @ WEIGHT - BIAS)
    left = margin - EPSILON * np.abs(WEIGHT).sum()
    table = pq.read_table(folder / "e.parquet")
    name = f"linf:{EPSILON}:untargeted:black-box:queries-300"
    robust = table[f"robust/{name}"].to_numpy()
    assert (table["clean_correct"].to_numpy() == (margin > 0)).all()
    assert not (robust & (left < -0.01 * EPSILON * np.abs(WEIGHT).sum())).any()
    assert not (~robust & (left > 1e-5)).any()
    assert list(evidence.measured["threats"]) == [name]
    assert f"robust_accuracy/linf:{EPSILON}" not in evidence.estimates
    assert document["sound"], document["soundness"]
    assert asked_of(server) - before == document["queries"]["asked"] == evidence.measured["queries"]["asked"]
    assert document["queries"]["per_record"] <= 300
    assert set(evidence.subjects) == {"endpoint", "holdout"}


@pytest.mark.slow
def test_the_same_endpoint_asked_twice_is_the_same_evidence(folder, server):
    first = run(folder, f"{server}/plain", config(queries=120, attacks={"square": {"queries": 40}}))
    again = run(folder, f"{server}/plain", config(queries=120, attacks={"square": {"queries": 40}}), "again")
    assert first["evidence_id"] == again["evidence_id"]


@pytest.mark.slow
def test_labels_alone_are_measured_and_said_to_be_an_upper_bound(folder, server):
    """The attacks are tried on the plane with labels too, and there they do not find the exact worst case."""
    document = run(folder, f"{server}/labels", config(answers="labels"))
    margin = np.where(records()[1] == 1, 1, -1) * (records()[0].astype(float) @ WEIGHT - BIAS)
    assert document["estimates"]["clean_accuracy"]["value"] == pytest.approx((margin > 0).mean())
    assert document["soundness"]["attack_self_test"] == "misses"
    assert not document["sound"]


@pytest.mark.slow
def test_labels_alone_are_sound_for_who_asks_with_an_attack_that_decisions_suffice(folder, server, workspace):
    """Exact: no record stands that 85 % of the budget turns on the plane, none falls that all of it does not."""
    walk = {"hopskipjump": {"steps": 10, "probes": 50}}
    document = run(folder, f"{server}/labels", config(answers="labels", queries=1800, attacks=walk))
    assert document["sound"], document["soundness"]
    assert document["soundness"]["chance_at_whole_box"] == "holds"
    assert document["queries"]["per_record"] <= 1800
    assert 0 < document["queries"]["checks"] <= 2 * 32 * 1800
    margin = np.where(records()[1] == 1, 1, -1) * (records()[0].astype(float) @ WEIGHT - BIAS)
    reach = EPSILON * np.abs(WEIGHT).sum()
    stands = pq.read_table(folder / "e.parquet")[f"robust/linf:{EPSILON}:untargeted:black-box:queries-1800"].to_numpy()
    assert margin[stands].min() > 0.85 * reach
    assert not (~stands & (margin > reach + 1e-5)).any()
    opened = unseal((folder / "e.dsse.json").read_bytes(), workspace.keyring, kind="evidence", role="evaluator")
    policy = parse(PolicyConfig, {"rules": [{"rule": "sound"}]}, "policy")
    case = Case(evidence=Evidence.from_statement(opened.statement), policy=policy, now=datetime.now(UTC), signed=True)
    assert Sound()(case).verdict == "holds"
    assert Sound()(case).note.endswith("; for black-box knowledge alone")
    assert Sound(knowledge="white-box")(case).verdict == "not_measured"


@pytest.mark.parametrize(
    ("counts", "missed"),
    [
        ({}, set()),
        ({"half": 10}, {"accuracy_falls_with_epsilon"}),
        ({"half": 18}, set()),
        ({"box": 31}, {"chance_at_whole_box"}),
        ({"box": 16}, set()),
    ],
)
def test_checks_at_other_radii_say_when_an_attack_does_worse_with_more_room(counts, missed):
    plan = make_black_box_plan(config(), parse(BlackBoxConfig, BOX, "black_box"), 8)
    key, y = plan.threats[0].key, torch.arange(32) % 2
    stand = {"half": 25, "whole": 20, "box": 0} | counts
    tallies = {f"stand_{name}/{key}": count for name, count in stand.items()}
    found = Outcomes((BlockOutcome(0, y.numpy(), {key: np.full(32, -1)}, tallies),))
    said = verdicts(found, y, plan, "scores")
    assert {name for name, verdict in said.items() if verdict == "misses"} == missed


def test_half_of_a_square_search_on_labels_misses_what_a_walk_on_labels_finds():
    """What the self-test on labels tells apart: 200 queries of square search, and 1,300 of a walk along the border."""
    for attacks, queries, verdict in (
        ({"square": {"queries": 200}}, 300, "misses"),
        ({"hopskipjump": {"steps": 10}}, 1800, "holds"),
        ({"hopskipjump": {"steps": 2, "probes": 5}}, 300, "misses"),
    ):
        box = parse(BlackBoxConfig, {"queries": queries, "attacks": attacks}, "black_box")
        plan = make_black_box_plan(config(), box, 8)
        key, y = plan.threats[0].key, torch.arange(4) % 2
        found = Outcomes((BlockOutcome(0, y.numpy(), {key: np.zeros(4, np.int64)}, {}),))
        assert verdicts(found, y, plan, "labels")["attack_self_test"] == verdict, attacks


def test_the_gate_never_takes_it_for_white_box_evidence(folder, server, capsys):
    run(folder, f"{server}/plain", config(queries=120, attacks={"square": {"queries": 40}}))
    (folder / "policy.yaml").write_text(
        "accept_local_keys: true\nrules:\n"
        f'  - {{rule: at_least, estimate: robust_accuracy, threat: "linf:{EPSILON}", value: 0.01}}\n'
    )
    code = main.run(["gate", str(folder / "e.dsse.json"), "--policy", str(folder / "policy.yaml"), "--json"])
    said = capsys.readouterr()
    assert code == 2
    assert "import the model and measure that" in said.out


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("short", UnfitInput, "values for shape"),
        ("wide", UnfitInput, "answers of shape"),
        ("text", UnfitInput, "KeyError"),
        ("slow", Unreachable, "an answer in 0.5 s"),
        ("drip", Unreachable, "bytes in 0.5 s"),
        ("down", Refused, "status 503"),
        ("forbidden", Refused, "status 403"),
        ("redirect", Refused, "status 307"),
        ("huge", UnfitInput, "an answer above"),
        ("list", UnfitInput, "a JSON object"),
        ("twoinputs", UnfitInput, "exactly one input"),
    ],
)
def test_an_endpoint_that_misbehaves_is_an_error_within_bounds_and_nothing_is_written(
    folder, server, name, error, message
):
    with pytest.raises(error, match=message):
        run(folder, f"{server}/{name}", config(timeout_s=0.5, attempts=2))
    assert not list(folder.glob("e.*"))


def test_busy_is_tried_again(server):
    model = OpenInference(url=f"{server}/busy", most_values=2)
    assert model(np.zeros((2, 8), np.float32)).shape == (2, 2)


@pytest.mark.slow
def test_nan_is_measured_and_makes_the_evidence_unsound(folder, server):
    document = run(folder, f"{server}/nan", config(queries=120, attacks={"square": {"queries": 40}}))
    assert document["soundness"]["finite_logits"] == "misses"
    assert not document["sound"]


def test_nobody_there_is_unreachable():
    with pytest.raises(Unreachable):
        OpenInference(url="http://127.0.0.1:9/v2/models/m", most_values=2, timeout_s=0.5, attempts=1).describe()


@pytest.mark.parametrize(
    "url",
    ["ftp://h/v2/models/m", "http://user:secret@h/v2/models/m", "http://h/models/m", "http://h/v2/models/../x/y",
     "http://h/v2/models/m?x=1", "http:///v2/models/m", "file:///v2/models/m", "http://h/v2/models/m/infer/../../x"],
)  # fmt: skip
def test_other_addresses_are_refused_and_repeat_no_password(url):
    with pytest.raises(UnfitInput) as raised:
        OpenInference(url=url, most_values=2)
    assert "secret" not in str(raised.value)


def test_the_budget_is_a_wall_and_not_a_wish():
    asked = Asked(lambda x: np.zeros((len(x), 2)), 2, "scores", most=10)
    asked(torch.zeros(7, 3))
    with pytest.raises(AssayError, match="query budget: got 14 queries, need at most 10"):
        asked(torch.zeros(7, 3))
    assert asked.queries == 7


def test_attacks_that_need_a_gradient_or_too_much_are_refused():
    with pytest.raises(UnfitInput, match=r"attacks: pgd: got an attack that follows the gradient.*square"):
        make_black_box_plan(config(), config(attacks={"pgd": {}}).black_box, 8)
    with pytest.raises(UnfitInput, match=r"need at least the \d+ that the attacks may ask"):
        make_black_box_plan(config(), config(queries=200).black_box, 8)
    given = config().model_copy(update={"triggers": ({"name": "t"},)})
    with pytest.raises(UnfitInput, match=r"evaluate\.triggers"):
        make_black_box_plan(given, given.black_box, 8)


@pytest.mark.parametrize(
    ("name", "value"), [("budget", 9.0), ("sets", {"a": "b"}), ("aspects", {"calibration": {}}), ("limit_s", 5.0)]
)
def test_settings_that_a_black_box_has_no_answer_to_are_refused(name: str, value: Any) -> None:
    given = config().model_copy(update={name: value})
    with pytest.raises(UnfitInput, match=f"evaluate.{name}: .*none for a black box"):
        make_black_box_plan(given, given.black_box, 8)


def test_answers_are_what_they_are_said_to_be():
    def answering(answer: Any, kind: str, classes: int = 2) -> torch.Tensor:
        return Asked(lambda _: np.asarray(answer), classes, kind, most=99)(torch.zeros(2, 3))

    torch.testing.assert_close(answering([0.25, 0.5], "probabilities").softmax(1)[:, 1], torch.tensor([0.25, 0.5]))
    assert answering([1, 0], "labels").argmax(1).tolist() == [1, 0]
    for wrong, kind in (
        ([[0.7, 0.7], [0.5, 0.5]], "probabilities"),
        ([[2.0, -1.0], [0.5, 0.5]], "probabilities"),
        ([2, 0], "labels"),
        ([0.5, 0], "labels"),
        ([[1, 2, 3], [1, 2, 3]], "scores"),
        ([1.0, 2.0], "scores"),
        (["a", "b"], "labels"),
    ):
        with pytest.raises(UnfitInput):
            answering(wrong, kind)


@pytest.mark.slow
def test_the_verb_measures_an_endpoint(folder, server):
    done = subprocess.run(
        [sys.executable, "-m", "assay.cli", "evaluate", f"{server}/plain", "--data", "holdout", "--threat", "linf:0.05",
         "--queries", "150", "--attack", "square:queries=60", "--out", "v.dsse.json", "--json"],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "robust_accuracy/linf:0.05:untargeted:black-box:queries-150" in json.loads(done.stdout)["estimates"]
