"""The verbs gate, promote, verify and audit: documents, lines and exit codes; and the components of the same calls."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from promotion_cases import FLOOR, TARGET, Candidate, policy, state, with_store

from assay.cli.main import run
from assay.workspace import Workspace

Told = tuple[int, Any, str]


@pytest.fixture
def assay(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command line; its exit code, its document (or lines), and standard error."""

    def call(*arguments: object) -> Told:
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in arguments else out, err

    return call


@pytest.fixture
def candidate(workspace: Workspace, tmp_path: Path) -> Candidate:
    with_store(workspace)
    return Candidate(workspace, tmp_path / "candidate")


def written(folder: Path, *rules: dict[str, Any], **settings: Any) -> Path:
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump({"rules": list(rules)} | settings))
    return path


@pytest.mark.parametrize(
    ("bar", "decision", "code"), [(0.8, "promote", 0), (0.98, "reject", 1), (0.93, "inconclusive", 3)]
)
def test_gate_answers_with_its_exit_code(
    assay: Any, candidate: Candidate, tmp_path: Path, bar: float, decision: str, code: int
) -> None:
    rules = written(tmp_path, FLOOR | {"value": bar})
    got, document, _ = assay(
        "gate", candidate.evidence_path, "--policy", rules, "--target", "digits@champion", "--json"
    )
    assert (got, document["decision"]) == (code, decision)
    assert document["bundle"] == str(candidate.folder / "decision.dsse.json")
    assert {"rule", "verdict", "severity", "text"} <= document["rules"][0].keys()
    got, lines, _ = assay("gate", candidate.evidence_path, "--policy", rules)
    assert (got, lines.splitlines()[-1].split(":")[0]) == (code, decision)


def test_gate_writes_nothing_but_its_answer_on_standard_output(
    assay: Any, candidate: Candidate, tmp_path: Path
) -> None:
    _, document, err = assay("gate", candidate.evidence_path, "--policy", written(tmp_path, FLOOR), "--json")
    assert document["decision"] == "promote"
    assert err == ""


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"rules": []}, "rules"),
    ({}, "rules"),
    ({"rules": [FLOOR], "confidense": 0.9}, "confidence"),
    ({"rules": [{"rule": "at_leest", "estimate": "m", "value": 1}]}, "at_least"),
    ({"rules": [FLOOR], "schema": "assay.policy/v2"}, "schema"),
    ({"rules": [FLOOR], "valid_for_s": 0}, "valid_for_s"),
    ({"rules": "all"}, "rules"),
]


@pytest.mark.parametrize(("document", "named"), WRONG, ids=range(len(WRONG)))
def test_a_policy_that_is_wrong_is_bad_input(
    assay: Any, candidate: Candidate, tmp_path: Path, document: dict[str, Any], named: str
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(document))
    code, answer, err = assay("gate", candidate.evidence_path, "--policy", path, "--json")
    assert code == 2
    assert named in answer["error"]["message"]
    assert named in err
    assert not candidate.decision_path.exists()


@pytest.mark.parametrize(
    "text", ["rules: [", "a: 1\na: 2", "", "- 1", "rules: &x [*x]", "\x00", "rules: !!python/object:a {}"]
)
def test_a_policy_that_is_no_yaml_is_bad_input(assay: Any, candidate: Candidate, tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    assert assay("gate", candidate.evidence_path, "--policy", path, "--json")[0] == 2


@pytest.mark.parametrize("arguments", [[], ["x.dsse.json"], ["missing.dsse.json", "--policy", "missing.yaml"]])
def test_gate_without_what_it_needs_is_a_usage_error(assay: Any, arguments: list[str]) -> None:
    assert assay("gate", *arguments)[0] == 2


def test_forged_evidence_is_an_answer_of_no(assay: Any, candidate: Candidate, tmp_path: Path) -> None:
    data = bytearray(candidate.evidence_path.read_bytes())
    data[200] ^= 1
    candidate.evidence_path.write_bytes(bytes(data))
    code, document, _ = assay("gate", candidate.evidence_path, "--policy", written(tmp_path, FLOOR), "--json")
    assert (code, document["error"]["type"]) == (1, "Refused")


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\x00", b'{"payload":"!","payloadType":"x","signatures":[]}'])
def test_a_file_that_is_no_envelope_is_bad_input_and_decides_nothing(
    assay: Any, candidate: Candidate, tmp_path: Path, data: bytes
) -> None:
    garbage, rules, before = tmp_path / "garbage", written(tmp_path, FLOOR), candidate.workspace.ledger.names()
    garbage.write_bytes(data)
    for verb in (
        ("gate", garbage, "--policy", rules, "--out", tmp_path / "decision"),
        ("promote", garbage, candidate.evidence_path, candidate.model),
        ("promote", candidate.evidence_path, garbage, candidate.model),
        ("approve", garbage),
        ("merge-evidence", garbage, "--model", tmp_path, "--data", tmp_path, "--out", tmp_path / "merged"),
    ):
        code, document, _ = assay(*verb, "--json")
        assert (code, document["error"]["type"]) == (2, "UnfitInput"), verb
        assert str(garbage) in document["error"]["where"]
    assert candidate.workspace.ledger.names() == before
    assert not (tmp_path / "decision").exists()


def test_explain_lists_every_rule_with_its_fields(assay: Any) -> None:
    from assay import catalog

    code, document, _ = assay("gate", "--explain", "--json")
    assert code == 0
    assert [rule["rule"] for rule in document["rules"]] == catalog.names("gate.rules")
    _, lines, _ = assay("gate", "--explain")
    for word in ("at_least", "without_champion", "applies always", "valid_for_s"):
        assert word in lines


def test_promote_verify_and_audit_agree(assay: Any, candidate: Candidate, tmp_path: Path) -> None:
    target, out = ("--target", "digits@champion"), candidate.folder / "promotion.dsse.json"
    assay("gate", candidate.evidence_path, "--policy", written(tmp_path, FLOOR), *target)
    files = (candidate.decision_path, candidate.evidence_path, candidate.model)
    code, document, _ = assay("promote", *files, *target, "--out", out, "--json")
    assert (code, document["promoted"], document["version"], document["sequence"]) == (0, True, "1", 1)
    assert "promoted digits version 1 as champion" in assay("promote", *files, *target)[1]
    for path in (*files, out, candidate.folder):
        code, document, _ = assay("verify", path, "--json")
        assert (code, document["verified"]) == (0, True), document
        assert document["reason"]
    assert assay("verify", candidate.model, "--against", out, "--json")[0] == 0
    assert assay("verify", out, "--keys", tmp_path / "none.json", "--json")[0] == 1
    code, document, _ = assay("audit", "--json")
    assert (code, document["mismatches"]) == (0, [])
    assert assay("promote", "--reconcile", "--json")[:2] == (0, {"finished": [], "moved": []})
    from mlflow import MlflowClient

    MlflowClient(candidate.workspace.tracking_uri).set_registered_model_alias("digits", "stray", "1")
    assert assay("audit")[0] == 1
    MlflowClient(candidate.workspace.tracking_uri).delete_registered_model_alias("digits", "champion")
    code, lines, _ = assay("promote", "--reconcile")
    assert (code, "moved by hand" in lines) == (1, True)
    assert assay("promote", "--reconcile", "--restore")[0] == 0


def test_promote_refuses_with_exit_1_and_says_why(assay: Any, candidate: Candidate, tmp_path: Path) -> None:
    assay("gate", candidate.evidence_path, "--policy", written(tmp_path, FLOOR | {"value": 0.98}))
    files = (candidate.decision_path, candidate.evidence_path, candidate.model)
    code, document, err = assay("promote", *files, "--json")
    assert (code, document["error"]["type"]) == (1, "Refused")
    assert "decision" in err
    assert assay("promote")[0] == 2
    assert assay("verify", tmp_path / "missing")[0] == 2


def artifact(path: Path) -> SimpleNamespace:
    path.parent.mkdir(parents=True, exist_ok=True)
    return SimpleNamespace(path=str(path), metadata={})


@pytest.mark.parametrize(("bar", "decision"), [(0.8, "promote"), (0.98, "reject")])
def test_the_components_make_the_same_calls(candidate: Candidate, tmp_path: Path, bar: float, decision: str) -> None:
    from assay.components.gate import component as gating
    from assay.components.promote import component as promoting
    from assay.components.withhold import component as withholding

    decided, summary = artifact(tmp_path / "task" / "decision"), artifact(tmp_path / "task" / "summary")
    target = json.dumps(TARGET.to_json())
    rules = json.dumps(policy(FLOOR | {"value": bar}).to_json())
    evidence = artifact(candidate.evidence_path)
    said = gating.gate.python_func(evidence, rules, target, "run-1", decided, summary)
    assert said == decision == decided.metadata["decision"]
    assert Path(summary.path).read_text().startswith(f"# {decision.capitalize()}")
    if decision == "reject":
        assert withholding.withhold.python_func(decided, "run-1", summary) == "reject"
        assert state(candidate.workspace)["versions"] == {}
        return
    promoted = artifact(tmp_path / "task" / "promotion")
    version = promoting.promote.python_func(
        decided, evidence, artifact(candidate.model), target, "run-1", promoted, summary
    )
    assert (version, promoted.metadata["version"]) == ("1", "1")
    assert Path(promoted.path).is_file()
    steps = {name.split("/")[2].partition("-")[0] for name in candidate.workspace.ledger.names("runs/run-1/")}
    assert steps == {"gate", "promote"}
