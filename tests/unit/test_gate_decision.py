"""From rules to one decision, and the step from envelope to envelope."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from promotion_cases import FLOOR, NO_WORSE, TARGET, Candidate, against_champion, ago, evidence_about, policy
from scipy.stats import binom

from assay.config.root import Target
from assay.errors import UnfitInput
from assay.estimate import proportion
from assay.evidence import payload_id
from assay.gate.decide import ask, conclude
from assay.gate.summary import headline, lines, markdown
from assay.gate.verdict import Case
from assay.gate.withhold import withhold
from assay.promotions import target_of
from assay.signing import peek, unseal
from assay.workspace import Workspace

ALWAYS = ["signed", "freshness", "attempts", "no_incident"]
VERDICTS = ("holds", "misses", "unclear", "not_measured")
IMPLICIT = [{"rule": rule, "severity": "required", "verdict": "holds"} for rule in ALWAYS]


def answers(*verdicts: str, severity: str = "required") -> list[dict[str, Any]]:
    return [{"rule": "at_least", "severity": severity, "verdict": verdict} for verdict in verdicts]


@pytest.mark.parametrize("verdicts", [*itertools.product(VERDICTS, repeat=1), *itertools.product(VERDICTS, repeat=3)])
def test_only_rules_that_all_hold_promote(verdicts: tuple[str, ...]) -> None:
    """Every combination: a miss rejects, all holding promotes, the rest is inconclusive."""
    expected = "reject" if "misses" in verdicts else "promote" if set(verdicts) == {"holds"} else "inconclusive"
    assert conclude(IMPLICIT + answers(*verdicts)) == expected


@pytest.mark.parametrize("verdict", VERDICTS)
def test_an_advisory_rule_neither_promotes_nor_stops(verdict: str) -> None:
    advice = answers(verdict, severity="advisory")
    assert conclude(IMPLICIT + advice) == "inconclusive"
    assert conclude(IMPLICIT + answers("holds") + advice) == "promote"
    assert conclude(IMPLICIT + answers("misses") + advice) == "reject"


def test_nothing_asked_promotes_nothing() -> None:
    assert conclude([]) == "inconclusive"
    assert conclude(IMPLICIT) == "inconclusive"
    assert conclude(answers("surely")) == "inconclusive"


@pytest.mark.parametrize(
    "document", [{}, {"rules": []}, {"rules": [FLOOR | {"severity": "advisory"}]}, {"rules": [{"rule": "x"}]}]
)
def test_a_policy_that_asks_for_nothing_is_an_error(document: dict[str, Any]) -> None:
    from assay.config.base import parse
    from assay.config.gate import PolicyConfig

    with pytest.raises(UnfitInput) as caught:
        parse(PolicyConfig, document, "policy")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("file", ["default", "strict"])
def test_the_policies_of_the_manifests_can_be_read(file: str) -> None:
    from assay.config.gate import PolicyConfig

    read = PolicyConfig.load(Path(__file__).parents[2] / "manifests" / "policy" / f"{file}.yaml")
    assert read.rules
    assert read.accept_local_keys == (file == "default")


def test_equal_policies_have_equal_digests_however_they_are_written() -> None:
    assert policy(FLOOR).digest == policy(FLOOR | {"severity": "required", "threat": "", "value": 0.80}).digest
    assert policy(FLOOR).digest != policy(FLOOR | {"value": 0.81}).digest


CASES: list[tuple[str, dict[str, Any], list[dict[str, Any]], str]] = [
    ("all hold", {}, [FLOOR], "promote"),
    ("below the bar", {"estimates": {"clean_accuracy": proportion(500, 1000)}}, [FLOOR], "reject"),
    ("at the bar", {"estimates": {"clean_accuracy": proportion(800, 1000)}}, [FLOOR], "inconclusive"),
    ("missing", {"estimates": {}}, [FLOOR], "inconclusive"),
    ("empty", {"estimates": {"clean_accuracy": proportion(0, 0)}}, [FLOOR], "inconclusive"),
    ("expired", {"run": ago(days=8)}, [FLOOR], "inconclusive"),
    ("no instant", {"run": {}}, [FLOOR], "inconclusive"),
    ("cut short", {"truncated": True}, [FLOOR], "inconclusive"),
    ("other threat", {}, [FLOOR | {"estimate": "robust_accuracy", "threat": "linf:0.2", "value": 0.1}], "inconclusive"),
    ("unsound", {"soundness": {"gradients": "misses"}}, [FLOOR, {"rule": "sound"}], "reject"),
    ("no check ran", {"soundness": {}}, [FLOOR, {"rule": "sound"}], "inconclusive"),
    ("no champion, held", {}, [FLOOR, NO_WORSE], "promote"),
    ("no champion, missed", {}, [FLOOR, NO_WORSE | {"without_champion": "misses"}], "reject"),
    ("a champion nobody promoted", against_champion("d" * 64), [FLOOR, NO_WORSE], "inconclusive"),
    ("one digit of the bar", {}, [FLOOR | {"value": 0.98}], "reject"),
]


@pytest.mark.parametrize(
    ("changes", "rules", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_the_decision_on_signed_evidence(
    workspace: Workspace, tmp_path: Path, changes: dict[str, Any], rules: list[dict[str, Any]], expected: str
) -> None:
    candidate = Candidate(workspace, tmp_path, **changes)
    answer = candidate.gate(policy(*rules))
    assert answer["decision"] == expected
    assert [rule["rule"] for rule in answer["rules"]] == [*ALWAYS, *(rule["rule"] for rule in rules)]
    opened = unseal(candidate.decision_path.read_bytes(), workspace.keyring, kind="decision", role="evaluator")
    assert opened.predicate["decision"] == expected
    assert answer["decision_id"] == payload_id(opened.statement)


def test_unsigned_evidence_is_inconclusive_and_its_decision_unsigned_without_a_key(tmp_path: Path) -> None:
    workspace = Workspace.from_env()
    evidence = evidence_about("a" * 64)
    path = tmp_path / "evidence.dsse.json"
    evidence.write(path, [])
    from assay.gate.step import gate

    answer = gate(path, policy(), target=TARGET, decision=tmp_path / "decision.dsse.json")
    said = {rule["rule"]: rule["verdict"] for rule in answer["rules"]}
    assert (answer["decision"], said["signed"]) == ("inconclusive", "not_measured")
    workspace.initialise()
    again = gate(path, policy(), target=TARGET, decision=tmp_path / "decision.dsse.json")
    assert again["decision"] == "inconclusive"
    assert not any(name.startswith("evidence/") for name in workspace.ledger.names())


def test_a_local_key_misses_where_the_policy_refuses_it(workspace: Workspace, tmp_path: Path) -> None:
    answer = Candidate(workspace, tmp_path).gate(policy(accept_local_keys=False))
    assert answer["decision"] == "reject"
    assert answer["rules"][0] | {"note": ""} == answer["rules"][0] | {"rule": "signed", "verdict": "misses", "note": ""}


def test_equal_evidence_policy_and_target_give_one_decision(workspace: Workspace, tmp_path: Path) -> None:
    candidate = Candidate(workspace, tmp_path)
    first, second = candidate.gate(), candidate.gate(run="another")
    assert first["decision_id"] == second["decision_id"]
    assert len(workspace.ledger.names("decisions/")) == 1
    others = [
        candidate.gate(policy(FLOOR | {"value": 0.81})),
        candidate.gate(target=Target(model="digits", alias="next")),
    ]
    assert len({first["decision_id"], *(other["decision_id"] for other in others)}) == 3


def test_a_measurement_repeated_later_is_the_same_evidence_and_decision(workspace: Workspace, tmp_path: Path) -> None:
    first = Candidate(workspace, tmp_path / "first").gate()
    second = Candidate(workspace, tmp_path / "second", run=ago(seconds=1) | {"host": "elsewhere"}).gate()
    assert (first["evidence_id"], first["decision_id"]) == (second["evidence_id"], second["decision_id"])


def test_the_summary_begins_with_the_verdict_and_escapes_what_comes_from_files(
    workspace: Workspace, tmp_path: Path
) -> None:
    candidate = Candidate(workspace, tmp_path, soundness={"<script>|x": "holds"})
    candidate.gate(policy(FLOOR, {"rule": "sound"}), summary=tmp_path / "summary.md")
    text = (tmp_path / "summary.md").read_text()
    assert text.splitlines()[0] == "# Promote"
    assert "0.930" in text
    assert "<script>" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert {line.replace("\\|", "").count("|") for line in rows} == {6}


def test_the_answer_comes_last_and_every_interval_beside_its_bar(workspace: Workspace, tmp_path: Path) -> None:
    floor = FLOOR | {"value": 0.92}
    told = lines(Candidate(workspace, tmp_path).gate(policy(floor, {"rule": "sound"})))
    assert told[-1] == "inconclusive: 1 of 6 rules unclear"
    assert "attacks pgd(restarts=5, steps=40)" in told[0]
    assert [line.split()[0] for line in told[1:-1]] == ["unclear", "holds"]
    assert ">= 0.92" in told[1]
    assert "0.930 [0.910, 0.946] (97%, n=1000)" in told[1]
    assert "would settle it" in told[1]


def test_the_headline_counts_what_decided() -> None:
    many = answers("misses", "unclear", "not_measured", "holds", "not_measured")
    assert headline("reject", many) == "reject: 1 of 5 rules misses"
    assert headline("inconclusive", many) == "inconclusive: 1 of 5 rules unclear, 2 of 5 rules not measured"


def test_withholding_records_the_refusal_and_changes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    candidate = Candidate(workspace, tmp_path)
    candidate.gate(policy(FLOOR | {"value": 0.98}))
    before = workspace.ledger.names()
    answer = withhold(candidate.decision_path, summary=tmp_path / "summary.md")
    assert answer["decision"] == "reject"
    assert (tmp_path / "summary.md").read_text().startswith("# Reject\n")
    assert workspace.ledger.names() == before


def test_models_at_the_limit_pass_no_more_often_than_stated() -> None:
    """Statistical: 2,000 models exactly at the bar, 300 records each; a correct gate fails once in 10**6 seeds.

    Power: three points above the bar, 1,500 records are enough for more than half of the models.
    """
    at_the_bar = np.random.default_rng(0).binomial(300, 0.8, size=2000)
    passed = sum(passes(int(successes), 300) for successes in at_the_bar)
    assert 0 < passed <= binom.ppf(1 - 1e-6, 2000, 0.025)
    above = np.random.default_rng(1).binomial(1500, 0.83, size=500)
    assert sum(passes(int(successes), 1500) for successes in above) > 250


@cache
def passes(successes: int, n: int) -> bool:
    """Whether the gate promotes on so many successes against a bar of 0.8."""
    made = evidence_about("a" * 64, estimates={"clean_accuracy": proportion(successes, n)})
    asked = Case(evidence=made, policy=policy(), now=datetime.now(UTC), signed=True)
    return conclude(ask(asked)) == "promote"


@pytest.mark.parametrize(
    ("text", "expected"), [("digits@next", ("digits", "next")), ("digits", ("digits", "champion"))]
)
def test_a_target_is_written_as_model_at_alias(text: str, expected: tuple[str, str]) -> None:
    read = target_of(text)
    assert (read.model, read.alias) == expected


@pytest.mark.parametrize("text", ["", "@x", "a@", "a@b@c", "a b@c", "a@latest", "a@v1", "a/b@c"])
def test_a_target_that_the_registry_refuses_is_refused(text: str) -> None:
    with pytest.raises(UnfitInput):
        target_of(text)


def test_the_markdown_of_a_decision_needs_nothing_but_the_statement(workspace: Workspace, tmp_path: Path) -> None:
    candidate = Candidate(workspace, tmp_path)
    candidate.gate()
    statement = peek(candidate.decision_path.read_bytes())
    assert markdown(json.loads(json.dumps(statement))) == markdown(statement)
