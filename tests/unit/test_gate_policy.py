"""The rest of the policy language: what each rule reads, what makes it hold, and what never does."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lineage_cases import dataset
from promotion_cases import FLOOR, Candidate, estimate, evidence_about, policy

from assay import catalog, lineage
from assay.config.gate import FAMILY, measures
from assay.contain import KIND as INCIDENT
from assay.data.manifest import BatchShare, Content, History, Manifest
from assay.errors import Refused, UnfitInput
from assay.estimate import proportion
from assay.evidence import payload_id
from assay.gate.decide import ask, conclude
from assay.gate.explain import explanation
from assay.gate.verdict import Case, Finding
from assay.incidents import manifest_of
from assay.keyring import Keyring
from assay.signing import peek, seal, statement
from assay.workspace import Workspace


def case(training: tuple[Manifest, ...] = (), **estimates: Any) -> Case:
    made = evidence_about("a" * 64, estimates=estimates)
    return Case(evidence=made, policy=policy(), now=datetime.now(UTC), signed=True, training=training)


def said(rule: str, asked: Case, **given: Any) -> Finding:
    found = catalog.build(FAMILY, rule, given)(asked)
    assert isinstance(found, Finding)
    return found


@pytest.mark.parametrize("name", catalog.names(FAMILY))
def test_every_rule_is_explained_with_an_example_that_a_policy_takes(name: str) -> None:
    (entry,) = [entry for entry in explanation()["rules"] if entry["rule"] == name]
    rule = yaml.safe_load(entry["example"])
    assert rule["rule"] == name
    read = policy(FLOOR, rule)
    assert read.rules[1]["rule"] == name
    assert entry["always"] == (name in ("signed", "freshness", "attempts", "no_incident"))


@pytest.mark.parametrize("name", sorted(set(catalog.names(FAMILY)) - {"approved"}))
def test_rules_that_measure_nothing_do_not_make_a_policy(name: str) -> None:
    (entry,) = [entry for entry in explanation()["rules"] if entry["rule"] == name]
    rule = yaml.safe_load(entry["example"]) | {"severity": "required"}
    if measures(name):
        assert policy(rule).rules
        return
    with pytest.raises(UnfitInput, match="measurement"):
        policy(rule)
    answered = [{"rule": name, "severity": "required", "verdict": "holds"}]
    assert conclude(answered) == "inconclusive"


SLICES = {"m": proportion(190, 200), "m[class=a]": proportion(99, 100), "m[class=b]": proportion(91, 100)}


@pytest.mark.parametrize(
    ("changes", "verdict", "named"),
    [
        ({}, "holds", "m[class=b]"),
        ({"m[class=b]": proportion(50, 100)}, "misses", "m[class=b]"),
        ({"m[class=b]": proportion(80, 100)}, "unclear", "m[class=b]"),
        ({"m[class=b]": proportion(0, 0), "m[class=c]": proportion(91, 100)}, "not_measured", "m[class=b]"),
        ({"m": proportion(190, 201)}, "not_measured", "200 of 201"),
    ],
)
def test_the_worst_slice_decides(changes: Any, verdict: str, named: str) -> None:
    found = said("worst_slice", case(**SLICES | changes), estimate="m", by="class", value=0.75)
    assert found.verdict == verdict
    assert verdict == "holds" or named in found.note
    assert "class=b" not in found.about


def test_a_slice_that_is_left_out_or_of_another_kind_is_noticed() -> None:
    for left in ("m", "m[class=a]"):
        fewer = {name: value for name, value in SLICES.items() if name != left}
        assert said("worst_slice", case(**fewer), estimate="m", by="class", value=0.1).verdict == "not_measured"
    assert said("worst_slice", case(**SLICES), estimate="m", by="source", value=0.1).verdict == "not_measured"
    attacked = {"m/linf:0.1": proportion(150, 200)} | {
        f"m[class={each}]/linf:0.1": proportion(75, 100) for each in "ab"
    }
    given: dict[str, Any] = {"estimate": "m", "by": "class", "value": 0.5}
    assert said("worst_slice", case(**SLICES | attacked), threat="linf:0.1", **given).verdict == "holds"
    assert said("worst_slice", case(**SLICES | attacked), threat="linf:0.2", **given).verdict == "not_measured"


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=6), bar=st.floats(0.01, 0.99))
def test_a_worst_slice_holds_exactly_when_each_slice_would(counts: list[int], bar: float) -> None:
    slices = {f"m[class={number}]": proportion(count, 50) for number, count in enumerate(counts)}
    asked = case(m=proportion(sum(counts), 50 * len(counts)), **slices)
    each = [said("at_least", asked, estimate=name, value=bar).verdict for name in slices]
    whole = said("worst_slice", asked, estimate="m", by="class", value=bar).verdict
    assert whole == ("misses" if "misses" in each else "unclear" if "unclear" in each else "holds")


@pytest.mark.parametrize(
    ("certified", "verdict"),
    [
        ({"l2:0.5": 900}, "holds"),
        ({"l2:1.0": 900}, "holds"),
        ({"l2:1.0": 10}, "not_measured"),
        ({"l2:0.5": 10, "l2:1.0": 900}, "misses"),
        ({"l2:0.25": 900}, "not_measured"),
        ({"linf:0.5": 900}, "not_measured"),
        ({"l2:1.0:[-1,1]": 900}, "not_measured"),
        ({"nonsense": 900}, "not_measured"),
        ({}, "not_measured"),
    ],
)
def test_a_certificate_answers_for_its_radius_and_smaller_ones(certified: dict[str, int], verdict: str) -> None:
    asked = case(**{f"certified_accuracy/{key}": proportion(count, 1000) for key, count in certified.items()})
    assert said("certified_at_least", asked, threat="l2:0.5", value=0.5).verdict == verdict


@pytest.mark.parametrize(
    ("hits", "triggers", "verdict"),
    [
        ({"": 5}, 1, "holds"),
        ({"/a": 5, "/b": 6}, 2, "holds"),
        ({"/a": 5, "/b": 400}, 2, "misses"),
        ({"/a": 5, "/b": 50}, 1, "unclear"),
        ({"/a": 5}, 2, "not_measured"),
        ({}, 1, "not_measured"),
        ({"_minus_champion": 5}, 1, "not_measured"),
    ],
)
def test_every_trigger_that_was_tried_counts(hits: dict[str, int], triggers: int, verdict: str) -> None:
    asked = case(**{f"backdoor_success{name}": proportion(count, 1000) for name, count in hits.items()})
    assert said("backdoor", asked, value=0.05, triggers=triggers).verdict == verdict


@pytest.mark.parametrize(
    ("confused", "of", "verdict"),
    [(0, 300, "holds"), (0, 10, "unclear"), (1, 10_000, "misses"), (0, 0, "not_measured")],
)
def test_one_confusion_is_one_too_many_and_few_canaries_prove_little(confused: int, of: int, verdict: str) -> None:
    given: dict[str, Any] = {"label": "stop", "predicted": "go", "value": 0.02}
    asked = case(**{"confused[stop->go]": proportion(confused, of)})
    assert said("never_confuse", asked, **given).verdict == verdict
    assert said("never_confuse", asked, canaries="night", **given).verdict == "not_measured"
    uncounted = case(**{"confused[stop->go]": estimate(0.0, 0.0, 0.001)})
    assert said("never_confuse", uncounted, **given).verdict == "not_measured"


@pytest.mark.parametrize("rule", ["calibration", "worst_case_error"])
def test_an_interval_without_integers_must_have_the_confidence_of_the_attempt(rule: str) -> None:
    name = {"calibration": "calibration_error"}.get(rule, rule)
    for confidence, verdict in ((0.95, "not_measured"), (0.97, "holds")):
        asked = case(**{name: estimate(0.05, 0.0, 0.1, confidence=confidence)})
        assert said(rule, asked, value=0.2).verdict == verdict
    asked = case(**{name: estimate(0.05, 0.0, 0.1, confidence=0.97)})
    assert said(rule, replace(asked, attempt=2), value=0.2).verdict == "not_measured"
    assert said(rule, asked, value=-0.1).verdict == "misses"


def made(*shares: tuple[str, int, str], **removed: dict[str, int]) -> Manifest:
    """A dataset of shares (source, records, uploader), from which so many were removed."""
    sources = tuple(BatchShare(source, "1", "0" * 64, count, uploader=key) for source, count, key in shares)
    return Manifest(
        Content((), ("a",), sum(share.records for share in sources), "0" * 64),
        History("filter", "kept", sources, removed=removed),
    )


def test_the_share_of_unsigned_batches_is_counted_in_records() -> None:
    asked = case(training=(made(("a", 90, "key"), ("b", 10, "")),))
    assert [said("unsigned_batches", asked, value=value).verdict for value in (0.1, 0.09, 0)] == [
        "holds",
        "misses",
        "misses",
    ]
    assert said("unsigned_batches", case()).verdict == "not_measured"
    assert said("unsigned_batches", case(training=(made(),))).verdict == "not_measured"


def test_what_was_taken_out_is_counted_over_all_steps_and_by_source() -> None:
    chain = (made(("a", 90, ""), ("b", 6, ""), b={"backdoor": 2}), made(b={"outlier": 2}, a={"outlier": 0}))
    assert said("quarantined_share", case(training=chain), value=0.4).verdict == "holds"
    assert said("quarantined_share", case(training=chain), value=0.39).verdict == "misses"
    assert said("quarantined_share", case(training=chain), value=0.04, per="total").verdict == "holds"
    assert said("quarantined_share", case(training=chain), value=0.03, per="total").verdict == "misses"
    gone = made(("a", 9, ""), c={"backdoor": 5})
    assert said("quarantined_share", case(training=(gone,)), value=0.99).verdict == "misses"
    assert said("quarantined_share", case(), value=1).verdict == "not_measured"


@pytest.mark.parametrize(
    "rule",
    [
        {"rule": "worst_slice", "estimate": "", "by": "class", "value": 0.5},
        {"rule": "certified_at_least", "threat": "", "value": 0.5},
        {"rule": "certified_at_least", "threat": "l2", "value": 0.5},
        {"rule": "backdoor", "value": 0.05, "triggers": 0},
        {"rule": "backdoor", "value": float("nan")},
        {"rule": "never_confuse", "label": "a", "predicted": "a", "value": 0.5},
        {"rule": "never_confuse", "label": "a", "predicted": "b", "value": 2},
        {"rule": "unsigned_batches", "value": float("nan")},
        {"rule": "quarantined_share", "value": -1},
        {"rule": "quarantined_share", "value": 0.5, "per": "batch"},
        {"rule": "filter_power", "value": float("inf")},
        {"rule": "calibration", "value": float("nan")},
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(UnfitInput):
        policy(FLOOR, rule)


def test_an_advisory_rule_that_misses_is_told_and_does_not_stop() -> None:
    rules = policy(FLOOR, {"rule": "backdoor", "value": 0.01, "severity": "advisory"})
    made_of = {"clean_accuracy": proportion(930, 1000), "backdoor_success": proportion(900, 1000)}
    answers = ask(replace(case(**made_of), policy=rules))
    assert (answers[-1]["verdict"], conclude(answers)) == ("misses", "promote")


class Behind:
    """A candidate that learned from a dataset of two batches, both in the ledger."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.data = dataset({"vendor/7": 8, "friend/1": 8})
        self.holdout = dataset({"ours/1": 8}, role="holdout")
        workspace.initialise()
        self.workspace = workspace
        for each in (self.data, self.holdout):
            lineage.put_dataset(workspace.ledger, each)
        subjects = {"dataset": self.data.manifest.digest, "holdout": self.holdout.manifest.digest}
        self.candidate = Candidate(workspace, folder / "candidate", subjects=subjects)

    def incident(self, ref: str, *models: str, role: Any = "evaluator") -> str:
        subjects = {f"model/{digest}": digest for digest in models}
        document = statement(INCIDENT, subjects, {"ref": ref, "reason": "tampered", "run": {}})
        name = f"incidents/{payload_id(document)}.dsse.json"
        self.workspace.ledger.put(name, seal(document, self.workspace.signers(role) if role else ()))
        return name

    def verdict(self) -> tuple[str, str]:
        answer = self.candidate.gate()
        said = {rule["rule"]: rule["verdict"] for rule in answer["rules"]}
        return answer["decision"], said["no_incident"]


@pytest.fixture
def behind(workspace: Workspace, tmp_path: Path) -> Behind:
    return Behind(workspace, tmp_path)


def test_a_model_without_an_incident_is_promoted(behind: Behind) -> None:
    assert behind.verdict() == ("promote", "holds")


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("batch:vendor/7", ("reject", "misses")),
        ("source:vendor", ("reject", "misses")),
        ("record:vendor/7:0", ("reject", "misses")),
        ("source:ours", ("reject", "misses")),
        ("batch:vendor/8", ("promote", "holds")),
        ("batch:vendors/7", ("promote", "holds")),
        ("source:other", ("promote", "holds")),
        ("record:vendor/7:9999", ("promote", "holds")),
        ("run:x", ("promote", "holds")),
    ],
)
def test_an_incident_about_records_behind_the_model_stops_it(
    behind: Behind, ref: str, expected: tuple[str, str]
) -> None:
    """Also a model trained after the incident, which no incident can have named."""
    behind.incident(ref, "9" * 64)
    assert behind.verdict() == expected


def test_an_incident_about_the_model_or_its_dataset_stops_it(behind: Behind) -> None:
    name = behind.incident("run:x", behind.candidate.digest)
    assert behind.verdict() == ("reject", "misses")
    (Path(behind.workspace.ledger_uri) / name).unlink()
    behind.incident(f"dataset:{behind.data.manifest.digest}")
    assert behind.verdict() == ("reject", "misses")


def test_an_incident_is_closed_by_revoking_its_payload(behind: Behind) -> None:
    from assay import canonical

    name = behind.incident("source:vendor")
    payload = canonical.sha256(canonical.dumps(peek(behind.workspace.ledger.get(name))))
    Keyring(behind.workspace.keyring.keys, frozenset({payload})).save(behind.workspace.keyring_path)
    assert behind.verdict() == ("promote", "holds")


def test_an_incident_that_nobody_can_verify_or_look_up_is_a_question(behind: Behind) -> None:
    name = behind.incident("source:vendor", role=None)
    assert behind.verdict() == ("inconclusive", "not_measured")
    (Path(behind.workspace.ledger_uri) / name).unlink()
    behind.workspace.ledger.put("incidents/broken.dsse.json", b"{}")
    assert behind.verdict() == ("inconclusive", "not_measured")
    shutil.rmtree(Path(behind.workspace.ledger_uri) / "incidents")
    (Path(behind.workspace.ledger_uri) / f"manifests/{behind.data.manifest.digest}.json").unlink()
    behind.incident("source:nobody")
    assert behind.verdict() == ("inconclusive", "not_measured")


def test_a_manifest_that_was_changed_in_the_ledger_stops_the_gate(behind: Behind) -> None:
    name = Path(behind.workspace.ledger_uri) / f"manifests/{behind.data.manifest.digest}.json"
    name.write_bytes(name.read_bytes().replace(b"vendor", b"vendxr"))
    assert manifest_of(behind.workspace.ledger, "0" * 64) is None
    with pytest.raises(Refused, match="SHA-256"):
        behind.candidate.gate()


def test_data_rules_read_what_the_ledger_says_of_the_training_records(behind: Behind) -> None:
    answer = behind.candidate.gate(
        policy(FLOOR, {"rule": "unsigned_batches"}, {"rule": "quarantined_share", "value": 0})
    )
    assert {rule["rule"]: rule["verdict"] for rule in answer["rules"][-2:]} == {
        "unsigned_batches": "misses",
        "quarantined_share": "holds",
    }
