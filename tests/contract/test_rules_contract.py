"""Every rule, found by its file, answers every case by the same contract."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from promotion_cases import NO_WORSE, against_champion, estimate, evidence_about, policy

from assay import canonical, catalog
from assay.approvals import Approval
from assay.config.gate import FAMILY
from assay.data.manifest import BatchShare, Content, History, Manifest
from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion
from assay.evidence import Evidence
from assay.gate.explain import explanation
from assay.gate.verdict import Case, Severity, Verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHAMPION = "d" * 64
APPROVER = "e" * 64
SETTINGS: dict[str, Mapping[str, Any]] = {
    "approved": {"by": [APPROVER]},
    "backdoor": {"value": 0.5},
    "calibration": {"value": 0.5},
    "certified_at_least": {"threat": "l2:0.5", "value": 0.5},
    "filter_power": {"value": 0.5},
    "never_confuse": {"label": "stop", "predicted": "go", "value": 0.05},
    "quarantined_share": {"value": 0.5},
    "worst_case_error": {"value": 0.5},
    "worst_slice": {"estimate": "clean_accuracy", "by": "class", "value": 0.5},
    "at_least": {"estimate": "clean_accuracy", "value": 0.5},
    "at_most": {"estimate": "backdoor_success", "value": 0.5},
    "no_worse_than": {key: value for key, value in NO_WORSE.items() if key != "rule"},
}
TRAINING = Manifest(
    Content((), ("a", "b"), 90, "0" * 64),
    History("ingest", "kept", (BatchShare("s", "1", "0" * 64, 90, uploader="k"),), removed={"s": {"outlier": 10}}),
)
RULES = catalog.names(FAMILY)
ASK_FOR_NO_MEASUREMENT = {"attempts", "no_incident"}


def build(name: str, **more: Any) -> Any:
    return catalog.build(FAMILY, name, {**SETTINGS.get(name, {}), **more})


def case(evidence: Evidence | None = None, now: datetime = NOW, **more: Any) -> Case:
    made = evidence or evidence_about("a" * 64, run={"ended": (NOW - timedelta(hours=1)).isoformat()})
    facts: dict[str, Any] = {"evidence": made, "policy": policy(), "now": now, "signed": True}
    return Case(**facts | more)


estimates = st.builds(
    lambda low, high, n, confidence: estimate((low + high) / 2, low, high, n=n, confidence=confidence),
    st.floats(-1, 0),
    st.floats(0, 1),
    st.integers(0, 10**6),
    st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
wild = st.builds(
    lambda found, soundness, truncated, measured, run: evidence_about(
        "a" * 64, estimates=found, soundness=soundness, truncated=truncated, measured=measured, run=run
    ),
    st.dictionaries(
        st.sampled_from(["clean_accuracy", "backdoor_success", "clean_accuracy_minus_champion", "other"]), estimates
    ),
    st.dictionaries(st.text(max_size=3), st.sampled_from(["holds", "misses", "not_measured"]), max_size=3),
    st.booleans(),
    st.dictionaries(st.sampled_from(["attacks", "trained_against"]), st.recursive(st.none() | st.integers(), st.lists)),
    st.dictionaries(st.sampled_from(["ended"]), st.text(max_size=30) | st.integers() | st.none()),
)


def test_the_family_has_its_first_rules() -> None:
    assert {"at_least", "at_most", "no_worse_than", "sound", "signed", "freshness"} <= set(RULES)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=30)
@given(evidence=wild, champion=st.sampled_from(["", CHAMPION]), signed=st.booleans())
def test_every_case_gets_one_of_four_verdicts_and_a_sentence(
    name: str, evidence: Evidence, champion: str, signed: bool
) -> None:
    """Property: whatever the evidence holds, a rule neither raises nor invents a verdict, and its answer is JSON."""
    rule = build(name)
    finding = rule(case(evidence, champion=champion, signed=signed))
    assert finding.verdict in get_args(Verdict)
    document = finding.to_json(name, rule.severity)
    assert canonical.loads(canonical.dumps(document)) == document
    assert document["text"]
    assert "\n" not in document["text"]


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=20)
@given(evidence=wild)
def test_a_rule_is_a_pure_function_of_its_case(name: str, evidence: Evidence) -> None:
    asked = case(evidence)
    before = repr(asked)
    first, second = build(name)(asked), build(name)(asked)
    assert first == second
    assert repr(asked) == before


@pytest.mark.parametrize("name", RULES)
def test_nothing_measured_never_holds_but_where_the_rule_asks_for_nothing_measured(name: str) -> None:
    bare = evidence_about("a" * 64, estimates={}, soundness={}, measured={}, run={})
    finding = build(name)(case(bare, signed=False, champion=CHAMPION))
    assert finding.verdict == ("holds" if name in ASK_FOR_NO_MEASUREMENT else "not_measured")


@pytest.mark.parametrize("name", RULES)
def test_good_evidence_holds(name: str) -> None:
    changes = against_champion(CHAMPION)
    measured = {"attacks": {"pgd": {"steps": 40}}, "trained_against": {"method": "huber", "threat": ""}}
    run = {"ended": (NOW - timedelta(hours=1)).isoformat()}
    changes["estimates"] |= {
        "calibration_error": estimate(0.1, 0.0, 0.2),
        "certified_accuracy/l2:0.75": proportion(900, 1000),
        "clean_accuracy[class=a]": proportion(460, 500),
        "clean_accuracy[class=b]": proportion(470, 500),
        "confused[stop->go]": proportion(0, 200),
        "filter_power": proportion(95, 100),
        "worst_case_error": estimate(0.1, 0.0, 0.2),
    }
    good = evidence_about("a" * 64, measured=measured, run=run, **changes)
    given = (Approval(key=APPROVER, payload="f" * 64),)
    assert build(name)(case(good, champion=CHAMPION, approvals=given, training=(TRAINING,))).verdict == "holds"


@pytest.mark.parametrize("name", RULES)
def test_settings_are_the_whole_configuration_and_every_one_is_explained(name: str) -> None:
    rule = build(name)
    assert catalog.build(FAMILY, name, catalog.settings(rule)) == rule
    assert dataclasses.fields(rule)
    (entry,) = [entry for entry in explanation()["rules"] if entry["rule"] == name]
    assert entry["says"].endswith(".") or entry["says"]
    assert [field["name"] for field in entry["fields"]] == [field.name for field in dataclasses.fields(rule)]
    assert all(len(field["means"]) > 10 for field in entry["fields"])


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_required_unless_the_policy_says_advisory(name: str) -> None:
    assert build(name).severity == "required"
    assert {build(name, severity=severity).severity for severity in get_args(Severity)} == set(get_args(Severity))
    with pytest.raises(UnfitInput):
        build(name, severity="optional")


@pytest.mark.parametrize("name", RULES)
def test_a_rule_never_reads_the_point(name: str) -> None:
    """Poison: a value that nobody could have measured, between the ends, changes no verdict."""

    def moved(found: Estimate, share: float) -> Estimate:
        return dataclasses.replace(found, value=found.low + share * (found.high - found.low))

    base = evidence_about("a" * 64, run={"ended": NOW.isoformat()}, **against_champion(CHAMPION))
    verdicts = set()
    for share in (0.0, 0.5, 1.0):
        found = {key: moved(value, share) for key, value in base.estimates.items()}
        asked = case(dataclasses.replace(base, estimates=found), champion=CHAMPION)
        verdicts.add(build(name)(asked).verdict)
    assert len(verdicts) == 1
    assert all(math.isfinite(value.value) for value in base.estimates.values())
